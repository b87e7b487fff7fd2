"""The raters' page, opened from a folder in headless Chromium."""

import numpy as np
import pytest
from selenium.webdriver.common import action_chains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests import chromium
from tests.evaluate.human.conftest import QUESTIONS
from torch_bridge import video
from torch_bridge.miniature import clips, world
from vpo_jax.evaluate.human import answers, study

KEYS = {
  "left": ("1", Keys.ARROW_LEFT),
  "tie": ("2", Keys.ARROW_DOWN),
  "right": ("3", Keys.ARROW_RIGHT),
}

pytestmark = chromium.needed


@pytest.fixture
def start(tmp_path):
  """Starts a browser; all of a test have one profile and one folder of downloads."""
  drivers = []

  def make():
    driver = chromium.start(tmp_path / "profile")
    driver.set_window_size(1280, 800)
    driver.execute_cdp_cmd(
      "Browser.setDownloadBehavior",
      {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")},
    )
    drivers.append(driver)
    return driver

  yield make
  for driver in drivers:
    driver.quit()


def open_page(browser, folder, rater):
  browser.get((folder / study.RATERS / "index.html").as_uri())
  field = find(browser, "rater")
  field.clear()
  field.send_keys(rater, Keys.ENTER)


def find(browser, name):
  return browser.find_element(By.ID, name)


def press(browser, *keys):
  """Presses keys as a person does, wherever the focus is."""
  action_chains.ActionChains(browser).send_keys(*keys).perform()


def count(browser):
  return find(browser, "count").text


def severe(browser):
  return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def downloads(browser, folder):
  """The downloaded file, as soon as it is written; it is created before, and empty."""
  files = (folder / "downloads").glob
  return chromium.until(
    browser, lambda: [path for path in files("*.json") if path.stat().st_size]
  )[0]


def test_a_rater_answers_by_keyboard_and_goes_on_after_a_break(start, twenty, tmp_path):
  """What is downloaded at the end is what was pressed on two days."""
  study.write(twenty, tmp_path)
  wanted = {
    (item.id, question): ("left", "tie", "right")[(3 * k + n * n + k // 2) % 3]
    for k, item in enumerate(twenty.items)
    for n, question in enumerate(QUESTIONS)
  }

  def rate(browser, k):
    chromium.until(browser, lambda: count(browser) == f"Pair {k + 1} of 20")
    assert find(browser, "query").text.endswith(twenty.items[k].query)
    for n, question in enumerate(QUESTIONS):
      press(browser, KEYS[wanted[twenty.items[k].id, question]][(k + n) % 2])

  browser = start()
  open_page(browser, tmp_path, "Anna Müller")
  for k in range(8):
    rate(browser, k)
    press(browser, Keys.ENTER)
  rate(browser, 8)  # answered, but not left
  assert not severe(browser)
  browser.quit()

  browser = start()
  browser.get((tmp_path / study.RATERS / "index.html").as_uri())
  assert find(browser, "rater").get_attribute("value") == "Anna Müller"
  assert "9 of 20 answered" in find(browser, "found").text
  press(browser, Keys.ENTER)
  assert count(browser) == "Pair 9 of 20"
  chosen = browser.find_elements(By.CSS_SELECTOR, "#questions :checked")
  shown = [(one.get_attribute("name"), one.get_attribute("value")) for one in chosen]
  assert shown == [(q, wanted[twenty.items[8].id, q]) for q in QUESTIONS]
  press(browser, Keys.ENTER)
  for k in range(9, 20):
    rate(browser, k)
    press(browser, Keys.ENTER)
  chromium.until(
    browser, lambda: find(browser, "thanks").text == "Thank you, that is all"
  )
  press(browser, Keys.ENTER)  # the focus is on the download
  path = downloads(browser, tmp_path)
  assert path.name == f"answers-{twenty.id}-Anna-Müller.json"
  read, counts = answers.read([path], twenty.keys)
  assert {(a.item, a.question): a.choice for a in read} == wanted
  assert {a.rater for a in read} == {"Anna Müller"}
  assert set(counts.values()) == {0}
  assert not severe(browser)


def test_answers_can_be_changed_and_left_open(start, twenty, tmp_path):
  study.write(twenty, tmp_path)
  browser = start()
  open_page(browser, tmp_path, "Bob")
  press(browser, "1", Keys.ENTER)  # two questions are open
  assert "Answer every question" in find(browser, "status").text
  assert count(browser) == "Pair 1 of 20"
  press(browser, "1", "1", Keys.ENTER)
  assert count(browser) == "Pair 2 of 20"
  press(browser, Keys.BACKSPACE, "3")  # the first question is asked again
  press(browser, Keys.ENTER, "s", "2")
  assert count(browser) == "Pair 3 of 20"
  for _ in range(18):
    press(browser, "s")
  assert find(browser, "left").text == "1 of 20 answered, 19 still open."
  find(browser, "open").click()
  assert count(browser) == "Pair 2 of 20"
  find(browser, "save").click()
  read, counts = answers.read([downloads(browser, tmp_path)], twenty.keys)
  one, _, three = (item.id for item in twenty.items[:3])
  assert {(a.item, a.question): a.choice for a in read} == {
    (one, "instruction_following"): "right",
    (one, "video_quality"): "left",
    (one, "overall"): "left",
    (three, "instruction_following"): "tie",
  }
  assert counts["unanswered"] == 2
  # Another rater of the same browser begins anew.
  open_page(browser, tmp_path, "Carl")
  assert count(browser) == "Pair 1 of 20"
  assert not browser.find_elements(By.CSS_SELECTOR, "#questions :checked")


def test_videos_play_in_step_with_one_control(start, twenty, tmp_path):
  study.write(twenty, tmp_path)
  browser = start()
  open_page(browser, tmp_path, "Dora")

  def players():
    return browser.execute_script(
      "return [...document.querySelectorAll('video')].map("
      "v => [v.currentTime, v.paused, v.muted, v.videoWidth])"
    )

  def all_paused(paused):
    return chromium.until(
      browser, lambda: all(v[1] is paused for v in players()) and players()
    )

  def runs_over():
    """Sees the videos begin again."""
    before = players()[0][0]
    return chromium.until(browser, lambda: players()[0][0] < before)

  moving = chromium.until(
    browser, lambda: all(v[0] > 0.3 for v in players()) and players()
  )
  assert [v[2:] for v in moving] == [[True, 32], [True, 32]]
  assert abs(moving[0][0] - moving[1][0]) < 0.15
  runs_over()
  press(browser, " ")
  one, two = all_paused(True)
  assert abs(one[0] - two[0]) < 0.15
  assert find(browser, "play").text.startswith("Play")
  press(browser, " ")
  all_paused(False)
  chromium.until(browser, lambda: players()[0][0] > 0.5)
  press(browser, "r")
  assert players()[0][0] < 0.5


def test_the_shorter_video_waits_for_the_longer_one(start, tmp_path):
  frames = clips.render([world.draw(world.generator(3))])[0]
  videos = {}
  for name, times in (("short", 1), ("long", 2)):
    videos[name] = {"q": tmp_path / f"{name}.mp4"}
    repeated = np.concatenate([frames] * times)
    encoding = {"codec": "libx264", "crf": 17}
    video.write(videos[name]["q"], repeated, world.FPS, encoding)
  study.write(study.pairs(videos, {"q": "q"}, [("short", "long")]), tmp_path)
  browser = start()
  open_page(browser, tmp_path, "Gus")

  def shown():
    """Whether each video has ended, and its time; the shorter one first."""
    return browser.execute_script(
      "return players.toSorted((a, b) => a.duration - b.duration)"
      ".map(v => [v.ended, v.currentTime])"
    )

  def waits():
    (short, _), (long, _) = shown()
    return short and not long

  chromium.until(browser, waits)
  press(browser, " ", " ")  # a pause does not start the short one again
  assert waits()
  chromium.until(browser, lambda: not any(ended for ended, _ in shown()))
  (_, short), (_, long) = shown()
  assert abs(short - long) < 0.2


def test_any_query_is_shown_as_it_was_written(start, write_clips, tmp_path):
  texts = [
    '</script><img src=x onerror="document.title=1"><!--',
    "two lines\nand \u2028 more\u2029 of them",
    "猫がスケートボードに乗る",
    "قطة على لوح تزلج",
    "\\u003c & &lt; %s ${x} `",
    "W" * 300,
  ]
  queries = {f"query-{k}": text for k, text in enumerate(texts)}
  made = study.levels(write_clips(len(texts), ("only",)), queries)
  study.write(made, tmp_path)
  browser = start()
  open_page(browser, tmp_path, "Eve")
  browser.execute_cdp_cmd(
    "Emulation.setDeviceMetricsOverride",
    {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True},
  )
  shown = []
  for _ in made.items:
    shown.append(browser.execute_script("return query.textContent"))
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= 400
    press(browser, "4", Keys.ENTER)
  assert shown == [item.query for item in made.items]
  assert browser.title == "Rating videos"
  find(browser, "saveend").click()
  read, _ = answers.read([downloads(browser, tmp_path)], made.keys)
  assert [row.level for row in answers.levels(read, made.keys)] == [4] * len(texts)
  assert not severe(browser)


def test_the_page_is_usable_with_a_screen_reader_and_without_network(
  start, twenty, tmp_path
):
  study.write(twenty, tmp_path)
  browser = start()
  open_page(browser, tmp_path, "Fay")
  groups = browser.find_elements(By.TAG_NAME, "fieldset")
  names = ["Instruction following", "Video quality", "Overall preference"]
  assert [group.accessible_name for group in groups] == names
  radios = browser.find_elements(By.CSS_SELECTOR, "#questions input")
  assert [radio.accessible_name for radio in radios[:3]] == ["A", "Tie", "B"]
  videos = browser.find_elements(By.TAG_NAME, "video")
  assert [video.get_attribute("aria-label") for video in videos] == [
    "Video A",
    "Video B",
  ]
  assert find(browser, "status").aria_role == "status"
  assert browser.switch_to.active_element == radios[0]
  press(browser, "1")
  assert browser.switch_to.active_element == radios[3]
  asked = browser.execute_script(
    "return performance.getEntriesByType('resource').map(entry => entry.name)"
  )
  assert {name.partition(":")[0] for name in asked} <= {"file", "data"}
