"""The server's page in headless Chromium."""

import contextlib

import pytest

from tests import chromium
from tests.serve import live
from vpo_jax.serve import web


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  driver = chromium.start(tmp_path_factory.mktemp("chromium"))
  yield driver
  driver.quit()


@pytest.fixture
def page(browser, scripted):
  """Opens the page of a server whose model answers with `script`."""
  with contextlib.ExitStack() as servers:

    def open_page(*script, key="", change=lambda served: served, **options):
      app = web.make(change(scripted(*script, **options)), key=key)
      browser.get(servers.enter_context(live.serving(app)))
      return browser

    yield open_page
    log = browser.get_log("browser")
  # Errors of the script and violations of the content security policy are logged.
  severe = [entry for entry in log if entry["level"] == "SEVERE"]
  assert not [entry for entry in severe if "status of 4" not in entry["message"]]


@pytest.fixture
def before_load(browser):
  """`before_load(script)` runs a script at the start of each page."""
  added = []

  def add(source):
    command = "Page.addScriptToEvaluateOnNewDocument"
    added.append(browser.execute_cdp_cmd(command, {"source": source}))

  yield add
  for one in added:
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", one)
