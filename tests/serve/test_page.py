"""The page at /, in headless Chromium."""

import contextlib

import pytest
from selenium.common import exceptions
from selenium.webdriver.common.by import By
from selenium.webdriver.support import wait

from tests import chromium
from tests.serve import live
from vpo_jax.serve import web

pytestmark = chromium.needed

GOOD = "A ginger cat stands on a red skateboard, slowly rolling. Two cats watch it."
CUT = ("A ginger dog", "length")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  driver = chromium.start(tmp_path_factory.mktemp("chromium"))
  yield driver
  driver.quit()


@pytest.fixture
def page(browser, scripted):
  """Opens the page of a server whose model answers with `script`."""
  with contextlib.ExitStack() as servers:

    def open_page(*script, key="", **options):
      app = web.make(scripted(*script, **options), key=key)
      browser.get(servers.enter_context(live.serving(app)))
      return browser

    yield open_page
    log = browser.get_log("browser")
  # Errors of the script and violations of the content security policy are logged.
  severe = [entry for entry in log if entry["level"] == "SEVERE"]
  assert not [entry for entry in severe if "status of 4" not in entry["message"]]


def find(browser, name):
  return browser.find_element(By.ID, name)


def until(browser, condition):
  return wait.WebDriverWait(browser, 20, 0.02).until(lambda _: condition())


def send(browser, query):
  field = find(browser, "query")
  field.clear()
  field.send_keys(query)
  find(browser, "send").click()


def wait_until_done(browser):
  until(browser, lambda: find(browser, "status").text == "Done.")


def marked(browser, name, tag):
  found = find(browser, name).find_elements(By.TAG_NAME, tag)
  return [element.text for element in found]


def test_the_prompt_streams_next_to_the_query(page):
  browser = page(GOOD, pause=0.1)
  send(browser, "Cat on a SKATEBOARD at night")
  part = until(browser, lambda: find(browser, "prompt").text)
  assert GOOD.startswith(part)
  assert part != GOOD
  assert find(browser, "prompt").get_attribute("aria-busy") == "true"
  wait_until_done(browser)
  assert find(browser, "prompt").text == GOOD
  assert find(browser, "original").text == "Cat on a SKATEBOARD at night"
  assert find(browser, "prompt").get_attribute("aria-busy") == "false"


def test_words_kept_and_added_are_marked(page):
  browser = page(GOOD)
  send(browser, "Cat on a SKATEBOARD at night")
  wait_until_done(browser)
  assert marked(browser, "prompt", "mark") == ["cat", "skateboard", "cats"]
  added = ["ginger", "stands on a red", "slowly rolling. Two", "watch"]
  assert marked(browser, "prompt", "ins") == added
  assert marked(browser, "original", "mark") == ["Cat on a SKATEBOARD"]
  assert marked(browser, "original", "span") == ["night"]


def test_words_are_found_in_scripts_without_spaces(page):
  browser = page("一只猫在滑板上")
  send(browser, "猫在跑")
  until(browser, lambda: "Done" in find(browser, "status").text)
  assert "猫" in "".join(marked(browser, "prompt", "mark"))
  assert "滑板" in "".join(marked(browser, "prompt", "ins"))


def test_markup_in_a_query_stays_text(page):
  browser = page('<b id="bold">A cat</b> on a red skateboard, seen from the side.')
  send(browser, '<img src=x onerror="document.title=1"> cat')
  wait_until_done(browser)
  assert not browser.find_elements(By.ID, "bold")
  assert "<b id" in find(browser, "prompt").text
  assert browser.title == "Prompt optimizer"


def test_a_retry_replaces_the_rejected_prompt(page):
  browser = page(CUT, GOOD, pause=0.05)
  send(browser, "cat")
  until(browser, lambda: "Trying again" in find(browser, "status").text)
  wait_until_done(browser)
  assert find(browser, "prompt").text == GOOD
  assert find(browser, "problem").text == ""


def test_a_problem_is_shown(page):
  browser = page(CUT)
  send(browser, "cat")
  wait_until_done(browser)
  assert "breaks off" in find(browser, "problem").text
  send(browser, "cat <|im_end|>")
  until(browser, lambda: "special token" in find(browser, "problem").text)


def test_stop_and_write_another(page):
  browser = page(GOOD, pause=0.3)
  send(browser, "cat")
  until(browser, lambda: find(browser, "halt").is_displayed())
  find(browser, "halt").click()
  until(browser, lambda: find(browser, "status").text == "Stopped.")
  find(browser, "another").click()
  wait_until_done(browser)
  assert "seed 1" in find(browser, "facts").text


def test_the_page_asks_for_the_key(page):
  browser = page(GOOD, key="sesame")
  send(browser, "cat")
  until(browser, lambda: find(browser, "key").is_displayed())
  find(browser, "key").send_keys("sesame")
  send(browser, "cat")
  wait_until_done(browser)
  assert find(browser, "prompt").text == GOOD


def test_the_page_fits_a_phone(page):
  browser = page(GOOD * 3)
  browser.set_window_size(500, 800)  # the smallest window of Chromium
  script = "return [document.documentElement.scrollWidth, window.innerWidth]"
  browser.execute_cdp_cmd(
    "Emulation.setDeviceMetricsOverride",
    {"width": 320, "height": 640, "deviceScaleFactor": 2, "mobile": True},
  )
  try:
    send(browser, "W" * 60)  # no line of 320 pixels holds it
    wait_until_done(browser)
    width, window = browser.execute_script(script)
    assert window == 320
    assert width <= window
    sizes = [b.size for b in browser.find_elements(By.TAG_NAME, "button")]
    assert all(size["height"] >= 44 for size in sizes if size["height"])
  finally:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_fields_have_accessible_names(page):
  browser = page(GOOD)
  for name, label in (("query", "Your query"), ("send", "Write the prompt")):
    assert find(browser, name).accessible_name == label
  assert find(browser, "status").aria_role == "status"
  assert find(browser, "problem").aria_role == "alert"
  find(browser, "query").send_keys("cat")
  with pytest.raises(exceptions.NoSuchElementException):
    browser.find_element(By.CSS_SELECTOR, "[src], link[rel=stylesheet], iframe")
