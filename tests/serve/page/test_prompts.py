"""Prompts on the page: streamed, marked, copied, and what goes wrong."""

import random

from selenium.webdriver.common.by import By

from tests import chromium
from tests.serve.page import steps
from vpo_jax.evaluate.html import changes

pytestmark = chromium.needed


def test_the_prompt_streams(page):
  browser = page(steps.GOOD, pause=0.1)
  steps.send(browser, "Cat on a SKATEBOARD at night")
  part = chromium.until(browser, lambda: steps.prompts(browser)[0])
  assert steps.GOOD.startswith(part)
  assert part != steps.GOOD
  prompt = browser.find_element(By.CSS_SELECTOR, ".prompt")
  assert prompt.get_attribute("aria-busy") == "true"
  steps.wait_until_done(browser)
  assert steps.prompts(browser) == [steps.GOOD]
  assert steps.find(browser, "asked").text == "Cat on a SKATEBOARD at night"
  assert prompt.get_attribute("aria-busy") == "false"


def test_words_kept_added_and_dropped_are_marked(page):
  browser = page(steps.GOOD)
  steps.write(browser, "Cat on a SKATEBOARD at night")
  assert steps.texts(browser, ".prompt mark") == ["cat", "on a", "skateboard,"]
  added = ["A ginger", "stands", "red", "slowly rolling. Two cats watch it."]
  assert steps.texts(browser, ".prompt ins") == added
  assert steps.texts(browser, ".prompt del") == ["at night"]
  steps.find(browser, "marks").click()
  assert steps.texts(browser, ".prompt del") == []


def test_changes_are_those_of_the_evaluation_report(page):
  """With repeated words, several scripts, and texts without words."""
  rng, words = random.Random(0), ["a", "A", "cat", "dog,", "runs.", "猫", "é", "x_1 "]

  def some():
    return " ".join(rng.choices(words, k=rng.randrange(12)))

  pairs = [(some(), some()) for _ in range(200)]
  pairs += [
    ("猫在跑", "一只猫在滑板上"),
    ("«!»", "..."),
    ("", "x"),
    ("STRASSE", "straße"),
  ]
  script = "return arguments[0].map(([query, prompt]) => changes(query, prompt))"
  found = page(steps.GOOD).execute_script(script, pairs)
  tags = {changes.KEPT: "mark", changes.ADDED: "ins", changes.DROPPED: "del"}
  for (query, prompt), parts in zip(pairs, found, strict=True):
    expected = changes.between(query, prompt)
    expected = [[tags[part[0]], part[1:]] for part in expected if part[1:]]
    assert parts == expected, (query, prompt)


def test_markup_in_a_query_stays_text(page):
  browser = page('<b id="bold">A cat</b> on a red skateboard, seen from the side.')
  steps.write(browser, '<img src=x onerror="document.title=1"> cat')
  assert not browser.find_elements(By.ID, "bold")
  assert "<b id" in steps.prompts(browser)[0]
  assert browser.title == "Prompt optimizer"


def test_a_retry_replaces_the_rejected_prompt(page):
  browser = page(steps.CUT, steps.GOOD, pause=0.5)
  steps.send(browser, "cat")
  chromium.until(
    browser, lambda: "Trying again" in "".join(steps.texts(browser, ".state"))
  )
  steps.wait_until_done(browser)
  assert steps.prompts(browser) == [steps.GOOD]
  assert steps.texts(browser, ".state") == ["14 words, 2 attempts"]
  assert steps.texts(browser, ".problem") == []


def test_a_problem_is_shown(page):
  browser = page(steps.CUT)
  steps.write(browser, "cat")
  assert "breaks off" in steps.texts(browser, ".problem")[0]
  steps.send(browser, "cat <|im_end|>")
  steps.wait_until_done(browser, "No prompt was written.")
  assert "special token" in steps.texts(browser, ".problem")[0]


def test_a_lost_connection_is_shown(page):
  browser = page(steps.GOOD)
  browser.execute_script("window.fetch = async () => { throw new TypeError('no'); }")
  steps.send(browser, "cat")
  steps.wait_until_done(browser, "No prompt was written.")
  assert steps.texts(browser, ".problem") == ["the server cannot be reached"]


def test_the_page_asks_for_the_key(page):
  browser = page(steps.GOOD, key="sesame")
  steps.send(browser, "cat")
  chromium.until(browser, lambda: steps.find(browser, "key").is_displayed())
  steps.find(browser, "key").send_keys("sesame")
  assert steps.write(browser, "cat") == [steps.GOOD]


def test_stop_keeps_finished_versions(page):
  def long_second(sampling):
    return steps.by_seed(sampling) + " It rolls on." * (20 * sampling.seed)

  browser = page(long_second, pause=0.05)
  steps.set_field(browser, "versions", "2")
  steps.send(browser, "cat")
  chromium.until(browser, lambda: "10 words" in steps.texts(browser, ".state")[0])
  steps.find(browser, "halt").click()
  steps.wait_until_done(browser, "Stopped.")
  assert steps.texts(browser, ".state")[1] == "Stopped."
  assert "1 version" in steps.texts(browser, "#history button")[0]


def test_a_prompt_becomes_the_query(page):
  browser = page(steps.GOOD)
  steps.write(browser, "cat")
  browser.find_element(By.CSS_SELECTOR, ".reuse").click()
  assert steps.find(browser, "query").get_attribute("value") == steps.GOOD
  assert browser.switch_to.active_element == steps.find(browser, "query")


def test_the_prompt_is_copied_without_dropped_words(page):
  browser = page(steps.GOOD)
  steps.write(browser, "cat at night")
  permission = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
  browser.execute_cdp_cmd("Browser.grantPermissions", permission)
  browser.find_element(By.CSS_SELECTOR, ".copy").click()
  chromium.until(browser, lambda: steps.texts(browser, ".copy") == ["Copied"])
  assert browser.execute_script("return navigator.clipboard.readText()") == steps.GOOD
