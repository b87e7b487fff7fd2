"""What the tests do on the page, and what they read from it."""

import contextlib

from selenium.webdriver.common.by import By

from tests import chromium

GOOD = "A ginger cat stands on a red skateboard, slowly rolling. Two cats watch it."
CUT = ("A ginger dog", "length")


def by_seed(sampling):
  return f"A ginger cat rolls slowly on a skateboard, take {sampling.seed}."


@contextlib.contextmanager
def width_of(browser, width):
  command = "Emulation.{}DeviceMetricsOverride"
  size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
  browser.execute_cdp_cmd(command.format("set"), size)
  try:
    yield
  finally:
    browser.execute_cdp_cmd(command.format("clear"), {})


def find(browser, name):
  return browser.find_element(By.ID, name)


def texts(browser, selector):
  found = browser.find_elements(By.CSS_SELECTOR, selector)
  return [one.text for one in found if one.is_displayed()]


def prompts(browser):
  """The texts of the prompts, without what they drop of the query."""
  return browser.execute_script("""
    return [...document.querySelectorAll("#list .prompt")].map((prompt) =>
      [...prompt.childNodes].filter((node) => node.nodeName !== "DEL")
        .map((node) => node.textContent).join(""));""")


def set_field(browser, name, value):
  if not find(browser, "settings").get_attribute("open"):
    browser.find_element(By.TAG_NAME, "summary").click()
  field = find(browser, name)
  field.clear()
  field.send_keys(value)


def send(browser, query):
  field = find(browser, "query")
  field.clear()
  field.send_keys(query)
  find(browser, "send").click()


def wait_until_done(browser, status="Done."):
  chromium.until(browser, lambda: find(browser, "status").text == status)


def write(browser, query):
  send(browser, query)
  wait_until_done(browser)
  return prompts(browser)
