"""The page by keyboard, on a phone and with a screen reader; the model's note."""

import dataclasses

import pytest
from etils import epath
from selenium.common import exceptions
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from configs import miniature
from tests import chromium
from tests.serve.page import steps
from vpo_jax.serve import card

pytestmark = chromium.needed


def test_it_works_by_keyboard(page):
  browser = page(steps.GOOD, pause=0.1)

  def press(*keys):
    ActionChains(browser).send_keys(*keys).perform()

  browser.execute_script("document.querySelector('details').open = true")
  press("cat", Keys.ENTER)  # the query has the focus
  chromium.until(browser, lambda: steps.prompts(browser))
  press(Keys.ESCAPE)
  steps.wait_until_done(browser, "Stopped.")
  press(Keys.TAB, Keys.SPACE)  # the button
  chromium.until(browser, lambda: browser.switch_to.active_element.text == "Stop")
  steps.wait_until_done(browser)
  assert browser.switch_to.active_element.text == "Write the prompt"
  steps.find(browser, "query").click()
  names = []
  while True:
    press(Keys.TAB)
    active = browser.switch_to.active_element
    if active.tag_name == "body":
      break
    names.append(active.get_attribute("id") or active.text.splitlines()[0])
    assert active.value_of_css_property("outline-style") == "solid", names
  fields = ["versions", "temperature", "seed", "reseed", "keep"]
  assert names[:8] == ["send", "another", "Settings", *fields]
  assert names[8:] == ["marks", "Copy", "Use as query", "cat", "clear"]


@pytest.mark.parametrize("width", [320, 400])
def test_the_page_fits_a_phone(page, width):
  browser = page(steps.GOOD * 3)
  with steps.width_of(browser, width):
    steps.set_field(browser, "versions", "2")
    steps.write(browser, "W" * 60)  # no line holds it
    script = "return [document.documentElement.scrollWidth, window.innerWidth]"
    assert browser.execute_script(script) == [width, width]
    sizes = [b.size for b in browser.find_elements(By.TAG_NAME, "button")]
    assert all(size["height"] >= 44 for size in sizes if size["height"])
    sheets = browser.find_elements(By.CSS_SELECTOR, "#list .sheet")
    assert sheets[0].location["x"] == sheets[1].location["x"]  # one column


def test_it_says_what_the_model_does_not_know(page, tmp_path):
  markup = "</script><b id='bold'>{{ 1 }}</b>"  # stays text
  note = f"{miniature.get_config().export.note} {markup}"
  (tmp_path / card.NOTE).write_text(note)

  def of_miniature(one):
    policy = dataclasses.replace(one.policy, folder=epath.Path(tmp_path))
    return dataclasses.replace(one, policy=policy)

  assert not steps.find(page(steps.GOOD), "note").is_displayed()
  browser = page(steps.GOOD, change=of_miniature)
  assert steps.find(browser, "note").text == note
  assert "that world only" in note
  assert not browser.find_elements(By.ID, "bold")


def test_fields_have_accessible_names(page):
  browser = page(steps.GOOD)
  steps.set_field(browser, "versions", "1")
  names = {
    "query": "Your query",
    "send": "Write the prompt",
    "versions": "Versions",
    "seed": "Seed",
    "keep": "Words to keep",
    "temperature": "Temperature",
  }
  for name, label in names.items():
    assert steps.find(browser, name).accessible_name == label
  assert steps.find(browser, "status").aria_role == "status"
  assert not steps.find(browser, "target").is_displayed()  # the server has none
  with pytest.raises(exceptions.NoSuchElementException):
    browser.find_element(By.CSS_SELECTOR, "[src], link[rel=stylesheet], iframe")
