"""The page's settings: versions, seed, temperature, target and words to keep."""

import dataclasses

from selenium.webdriver.common.by import By

from tests import chromium
from tests.serve.page import steps
from tests.serve.test_promises import words

pytestmark = chromium.needed

# Keeps the bodies of requests in `sent`.
RECORD = """
  window.sent = [];
  const real = window.fetch;
  window.fetch = (address, options) => {
    window.sent.push(JSON.parse(options.body));
    return real(address, options);
  };"""


def test_versions_have_the_seeds_that_follow(page):
  browser = page(steps.by_seed)
  steps.set_field(browser, "versions", "3")
  steps.set_field(browser, "seed", "7")
  with steps.width_of(browser, 1280):
    first = steps.write(browser, "cat")
    assert [text[-7:] for text in first] == ["take 7.", "take 8.", "take 9."]
    sheets = browser.find_elements(By.CSS_SELECTOR, "#list .sheet")
    assert sheets[0].location["y"] == sheets[1].location["y"]  # side by side
  steps.find(browser, "another").click()
  chromium.until(browser, lambda: "take 12" in steps.prompts(browser)[-1])
  steps.wait_until_done(browser)
  steps.find(browser, "reseed").click()
  assert steps.write(browser, "cat") != first
  steps.set_field(browser, "seed", "7")
  assert steps.write(browser, "cat") == first


def test_settings_are_sent_and_remembered(page):
  browser = page(
    "A ginger cat on a skateboard at dusk.",
    change=lambda one: dataclasses.replace(one, targets=(words(100),)),
  )
  steps.set_field(browser, "keep", " sks dog , dusk,")
  assert steps.texts(browser, "#target option") == ["any", "tiny"]
  steps.set_field(browser, "temperature", "0.25")
  browser.find_element(By.CSS_SELECTOR, "#target [value=tiny]").click()
  browser.execute_script(RECORD)
  steps.write(browser, "cat")
  assert steps.texts(browser, ".spans li") == [
    "sks dog: repaired",
    "dusk: kept",
    "11 tokens: kept",
  ]
  assert browser.execute_script("return window.sent") == [
    {
      "query": "cat",
      "seed": 0,
      "temperature": 0.25,
      "keep": ["sks dog", "dusk"],
      "target": "tiny",
      "stream": True,
    }
  ]
  browser.refresh()
  assert steps.find(browser, "temperature").get_attribute("value") == "0.25"
  assert steps.find(browser, "target").get_attribute("value") == "tiny"


def test_a_wrong_setting_is_shown(page):
  browser = page(steps.GOOD)
  steps.set_field(browser, "versions", "9")
  browser.find_element(By.TAG_NAME, "summary").click()
  steps.send(browser, "cat")
  assert steps.find(browser, "versions").is_displayed()
  assert browser.switch_to.active_element.get_attribute("id") == "versions"
  assert not steps.prompts(browser)
