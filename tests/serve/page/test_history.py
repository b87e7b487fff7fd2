"""Past queries in the browser's storage, which may be forbidden, full or damaged."""

import json

import pytest
from selenium.webdriver.common.by import By

from tests import chromium
from tests.serve.page import steps

pytestmark = chromium.needed

FORBIDDEN = (
  "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } });"
)
ROOM = """
  const write = Storage.prototype.setItem;
  Storage.prototype.setItem = function (name, value) {
    if (value.length > ROOM) throw new Error("QuotaExceededError");
    write.call(this, name, value);
  };"""


def test_the_history_survives_a_reload(page):
  browser = page(steps.by_seed)
  steps.set_field(browser, "versions", "2")
  first = steps.write(browser, "cat")
  steps.set_field(browser, "versions", "1")
  steps.write(browser, "dog")
  steps.write(browser, "dog")  # the same again is one entry
  browser.refresh()
  entries = browser.find_elements(By.CSS_SELECTOR, "#history button")
  assert [one.text.splitlines()[0] for one in entries] == ["dog", "cat"]
  entries[1].click()
  assert steps.prompts(browser) == first
  assert steps.find(browser, "query").get_attribute("value") == "cat"
  assert steps.find(browser, "versions").get_attribute("value") == "2"
  steps.find(browser, "clear").click()
  browser.switch_to.alert.accept()
  browser.refresh()
  assert not steps.find(browser, "past").is_displayed()


def test_the_history_is_bounded(page):
  browser = page(steps.GOOD)
  full = [{"asked": {"query": f"cat {n}"}, "answers": [], "time": n} for n in range(50)]
  script = "localStorage.setItem('vpo.history', arguments[0])"
  browser.execute_script(script, json.dumps(full))
  browser.refresh()
  steps.write(browser, "dog")
  entries = steps.texts(browser, "#history .words")
  assert entries == ["dog", *(f"cat {n}" for n in range(49))]


def test_the_oldest_are_not_stored_without_room(page, before_load):
  before_load(ROOM.replace("ROOM", "700"))
  browser = page(steps.GOOD)
  for query in ("cat", "dog", "pig"):
    steps.write(browser, query)
  assert steps.texts(browser, "#history .words") == ["pig", "dog", "cat"]
  browser.refresh()
  assert steps.texts(browser, "#history .words") == ["pig", "dog"]


@pytest.mark.parametrize("script", [FORBIDDEN, ROOM.replace("ROOM", "0")])
def test_it_works_without_storage(page, before_load, script):
  before_load(script)
  browser = page(steps.GOOD)
  assert steps.write(browser, "cat") == [steps.GOOD]
  # Until the page is closed.
  assert len(steps.texts(browser, "#history button")) == 1


def test_a_damaged_history_is_ignored(page):
  browser = page(steps.GOOD)
  for value in ("{", '[null, {"asked": 1}]', "7"):
    browser.execute_script("localStorage.setItem('vpo.history', arguments[0])", value)
    browser.execute_script("localStorage.setItem('vpo.settings', arguments[0])", value)
    browser.refresh()
    assert steps.write(browser, "cat") == [steps.GOOD]
