"""report.html, opened from disk in headless Chromium."""

import json
import time

import pytest
from selenium.webdriver.common import action_chains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import select

from tests import chromium
from tests.evaluate.html.conftest import GROUPS, HOSTILE

QUERIES, SYSTEMS = 1000, 5
MOST_LOADED = 8 * SYSTEMS  # videos: of the rows in view and their neighbours

pytestmark = chromium.needed


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
  browser = chromium.start(tmp_path_factory.mktemp("chromium"))
  browser.set_window_size(1280, 900)
  yield browser
  browser.quit()


@pytest.fixture(scope="module")
def large(make_report):
  return make_report(QUERIES, videos=0)


@pytest.fixture
def open_report(driver):
  """Opens a report; at the end there is no error in the console."""

  def open_page(made, place=""):
    driver.get("about:blank")
    driver.get(made.path.as_uri() + place)
    chromium.until(driver, lambda: listed(driver))
    return driver

  yield open_page
  assert [row for row in driver.get_log("browser") if row["level"] == "SEVERE"] == []


def press(browser, *keys):
  action_chains.ActionChains(browser).send_keys(*keys).perform()


def listed(browser):
  """The ids of the queries that pass the filters, in order."""
  return browser.execute_script(
    "return [...document.querySelectorAll('#queries > article')].map(a => a.dataset.id)"
  )


def choose(browser, **choices):
  for name, text in choices.items():
    select.Select(browser.find_element(By.ID, name)).select_by_value(text)


def search(browser, text):
  field = browser.find_element(By.ID, "search")
  field.clear()
  field.send_keys(text)


def loaded(browser):
  return browser.execute_script("return document.querySelectorAll('video[src]').length")


def now(browser):
  return browser.execute_script(
    "return document.querySelector('article.now').dataset.id"
  )


def test_of_a_thousand_queries_only_rows_in_view_are_loaded(large, open_report):
  browser = open_report(large)
  press(browser, "j")
  chromium.until(browser, lambda: loaded(browser) >= SYSTEMS)
  press(browser, "k")
  assert len(listed(browser)) == QUERIES
  assert "1,000 of 1,000" in browser.find_element(By.ID, "count").text
  for n in range(1, 12):
    press(browser, "j")
    assert now(browser) == str(n)
    assert loaded(browser) <= MOST_LOADED
  press(browser, "k")
  assert now(browser) == "10"
  # A jump to the end fills those rows and releases the others.
  browser.execute_script(
    "document.querySelector('article:last-child').scrollIntoView()"
  )
  last = "article:last-child video[src]"
  chromium.until(
    browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, last)) == SYSTEMS
  )
  chromium.until(browser, lambda: loaded(browser) <= MOST_LOADED)
  assert len(browser.find_elements(By.CSS_SELECTOR, "video")) <= 2 * MOST_LOADED
  first = browser.execute_script("return document.querySelector('article').innerHTML")
  assert first == ""


def test_filters_give_the_rows_that_python_computes(large, open_report):
  browser = open_report(large)
  overall, ids = large.of("overall"), list(large.found.items)
  choose(browser, **{"from": "sft", "to": "vpo"})

  def gain(query, of=overall):
    return round(of["vpo"][query] - of["sft"][query], 6)

  for outcome, passes in (
    ("better", lambda q: gain(q) > 0),
    ("same", lambda q: gain(q) == 0),
    ("worse", lambda q: gain(q) < 0),
  ):
    choose(browser, outcome=outcome)
    expected = [query for query in ids if passes(query)]
    assert expected
    assert listed(browser) == expected
  choose(browser, outcome="all", order="gain")
  assert listed(browser) == sorted(ids, key=lambda query: -gain(query))
  choose(browser, order="loss")
  assert listed(browser) == sorted(ids, key=gain)
  choose(browser, order="suite", outcome="unsafe")
  unsafe, said = large.of("unsafe videos"), large.found.verdicts

  def is_unsafe(query):
    return any(of.get(query, 0) > 0 for of in unsafe.values()) or any(
      of[query] == "unsafe" for of in said.values()
    )

  assert listed(browser) == [query for query in ids if is_unsafe(query)]
  # A measure of which less is better, which few queries have; and a label and words.
  choose(browser, outcome="better", measure="unsafe videos")
  assert listed(browser) == [
    query
    for query in ids
    if query in unsafe["vpo"] and unsafe["vpo"][query] < unsafe["sft"][query]
  ]
  choose(
    browser,
    outcome="all",
    label=json.dumps(["kind", "two words"], separators=(",", ":")),
  )
  search(browser, "WORD12 word7")
  rows = {row.query_id: row for row in large.found.rows}
  expected = [
    query
    for query in ids
    if large.found.items[query].labels["kind"] == ("two words",)
    if all(
      word
      in "\n".join([rows[query].query, *(c.prompt for c in rows[query].candidates)])
      for word in ("word12", "word7")
    )
  ]
  assert 0 < len(expected) < len(ids) / 3
  chromium.until(browser, lambda: listed(browser) == expected)
  # The address keeps the choices.
  place = browser.execute_script("return location.hash")
  open_report(large, place)
  assert listed(browser) == expected
  browser.find_element(By.ID, "reset").click()
  assert listed(browser) == ids


def test_videos_play_in_step_and_go_on_with_the_next_query(large, open_report):
  browser = open_report(large)
  press(browser, "j")
  press(browser, " ")
  times = (
    "return [...document.querySelectorAll('article.now video')].map(v => v.currentTime)"
  )
  playing = (
    "return [...document.querySelectorAll('video')].filter(v => !v.paused).length"
  )
  chromium.until(browser, lambda: min(browser.execute_script(times)) > 0.3)
  seen = []
  for _ in range(20):
    at = browser.execute_script(times)
    assert len(at) == SYSTEMS
    assert max(at) - min(at) < 0.15
    seen.append(at[0])
    time.sleep(0.05)
  assert seen[-1] > seen[0] + 0.5
  press(browser, "j")
  chromium.until(browser, lambda: min(browser.execute_script(times)) > 0.1)
  assert now(browser) == "1"
  assert browser.execute_script(playing) == SYSTEMS
  press(browser, " ")
  chromium.until(browser, lambda: browser.execute_script(playing) == 0)
  # The scale moves all of them.
  browser.execute_script(
    "const p = document.querySelector('article.now .place'); p.value = 500;"
    "p.dispatchEvent(new Event('input'))"
  )
  chromium.until(browser, lambda: min(browser.execute_script(times)) > 1.5)
  assert len({round(at, 2) for at in browser.execute_script(times)}) == 1


def test_hostile_text_stays_text(large, open_report):
  browser = open_report(large)
  for n, text in enumerate(HOSTILE):
    press(browser, "j")
    assert now(browser) == str(n)
    article = "document.querySelector('article.now')"
    shown = browser.execute_script(
      f"return {article}.querySelector('.query').textContent"
    )
    # HTML has no NUL in text that is parsed, but the page never parses it.
    assert shown == text
    kept = f"{article}.querySelector('.system:last-child .prompt').textContent"
    assert browser.execute_script(f"return {kept}").startswith(text.split()[0])
  assert browser.title.startswith("Evaluation of")
  assert not browser.find_elements(By.CSS_SELECTOR, "img, article b, option b")
  assert "</option><b>" in browser.find_element(By.ID, "label").text
  notes = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "p.note")]
  assert notes[0] == "drawn values </p><b>"
  page = large.path.read_text()
  assert "http://" not in page.replace("http://www.w3.org", "")
  assert "https://" not in page


def test_the_page_is_used_by_keyboard(large, open_report):
  browser = open_report(large)
  press(browser, "/")
  assert browser.switch_to.active_element.get_attribute("id") == "search"
  press(browser, '"query 77 of" j')  # letters and spaces are text here
  time.sleep(0.3)
  assert (
    browser.find_element(By.ID, "search").get_attribute("value") == '"query 77 of" j'
  )
  press(browser, Keys.BACKSPACE, Keys.BACKSPACE, Keys.ENTER)
  chromium.until(browser, lambda: len(listed(browser)) == 1)
  press(browser, Keys.ESCAPE, "j")
  assert now(browser) == "77"
  focused = browser.switch_to.active_element
  assert focused.get_attribute("data-id") == "77"
  assert focused.value_of_css_property("outline-style") == "solid"
  # Every control has a name.
  unnamed = browser.execute_script(
    "return [...document.querySelectorAll('button, input, select, video')].filter("
    "e => !(e.labels && e.labels.length) && !e.ariaLabel && !e.textContent)"
    ".map(e => e.outerHTML)"
  )
  assert unnamed == []


def test_the_summary_has_the_runs_numbers_and_the_papers(large, open_report):
  browser = open_report(large)
  table = browser.find_element(By.CSS_SELECTOR, "#tables table")
  lines = table.text.splitlines()
  assert lines[0].split()[:3] == ["system", "alignment", "stability"]
  part = large.results["tables"]["1"][0]
  (row,) = [row for row in part["rows"] if row["system"] == "vpo"]
  (line,) = [line for line in lines if line.startswith("vpo")]
  assert line.split()[1:3] == [f"{row['cells'][0]['mean']:.2f}", "(1.34)"]
  charts = browser.find_elements(By.CSS_SELECTOR, ".chart")
  # And overall, unsafe videos, verdicts, words and self-BLEU.
  assert len(charts) == len(GROUPS) + 2 + 4 + 2
  # Whiskers span the interval around the mean's point.
  for row in browser.find_elements(By.CSS_SELECTOR, ".points svg"):
    whisker = row.find_element(By.CSS_SELECTOR, ".whisker")
    low, high = (float(whisker.get_attribute(x)[:-1]) for x in ("x1", "x2"))
    mean = float(row.find_element(By.TAG_NAME, "circle").get_attribute("cx")[:-1])
    assert 0 <= low <= mean <= high <= 100
  claims = [one.text for one in browser.find_elements(By.CSS_SELECTOR, ".claims li")]
  assert len(claims) == 4 * 4  # overall, unsafe videos, aligned, unsafe
  gains = browser.find_elements(By.CSS_SELECTOR, "#gains tr")
  assert len(gains) == 1 + SYSTEMS * (SYSTEMS - 1) / 2
  assert gains[0].text.startswith("systems reward alignment stability")
  wins = browser.find_elements(By.CSS_SELECTOR, "#figures svg")
  assert len(wins) == SYSTEMS + SYSTEMS * (SYSTEMS - 1) / 2


@pytest.fixture(params=[400, pytest.param(1280, marks=pytest.mark.slow)])
def window(request, driver):
  """Gives the browser's window a width."""
  size = {"width": request.param, "height": 850, "deviceScaleFactor": 1}
  driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"mobile": False})
  yield
  driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_is_wider_than_the_window(large, open_report, window):
  browser = open_report(large)
  press(browser, "j", "j")
  wide = "return document.documentElement.scrollWidth - window.innerWidth"
  assert browser.execute_script(wide) <= 0


@pytest.fixture
def slow_computer(driver):
  driver.execute_cdp_cmd("Emulation.setCPUThrottlingRate", {"rate": 6})
  yield
  driver.execute_cdp_cmd("Emulation.setCPUThrottlingRate", {"rate": 1})


def test_a_query_stays_in_view_while_others_are_drawn(
  large, open_report, window, slow_computer
):
  """Rows are drawn late, and become higher than their places."""
  browser = open_report(large, "#suite=test&id=500")
  top = (
    "const now = document.querySelector('article.now');"
    "return now.childElementCount ? now.getBoundingClientRect().top : -1"
  )

  def settled():
    chromium.until(browser, lambda: loaded(browser) >= SYSTEMS)
    time.sleep(0.5)
    return browser.execute_script(top)

  assert now(browser) == "500"
  assert 0 <= settled() < 150
  for key, expected in (("k", "499"), ("k", "498"), ("k", "497"), ("j", "498")):
    press(browser, key)
    assert now(browser) == expected
    assert 0 <= settled() < 150


@pytest.fixture
def small(make_report):
  """Eight queries, of which four have videos; and a suite without videos."""
  return make_report(8, models=("main", "second"), videos=4)


def content(made):
  text = (made.path.parent / "report" / "test.js").read_text()
  return json.loads(text.removeprefix("report.add(").removesuffix(");\n"))


def test_some_queries_have_videos(small, open_report):
  rows = content(small)["rows"]
  with_videos = [row["id"] for row in rows if row["videos"]["main"]["included"]]
  assert len(with_videos) == 4
  videos = small.path.parent / "videos"
  assert len(list(videos.iterdir())) == 4 * SYSTEMS
  browser = open_report(small)
  choose(browser, outcome="videos")
  assert listed(browser) == with_videos
  choose(browser, outcome="all")
  for row in rows:
    press(browser, "j")
    shown = browser.find_elements(By.CSS_SELECTOR, "article.now video")
    assert len(shown) == (SYSTEMS if row["id"] in with_videos else 0)
    assert len(browser.find_elements(By.CSS_SELECTOR, "article.now .values")) == SYSTEMS


def test_videos_that_cannot_be_shown_are_named(small, open_report):
  lost, broken = [
    row["videos"]["main"]["takes"][0]["videos"]
    for row in content(small)["rows"]
    if row["videos"]["main"]["included"]
  ][:2]
  small.store.video(lost[1]).unlink()
  small.write()
  assert content(small)["missing"] == [lost[1]]
  file = small.path.parent / "videos" / f"{broken[2]}.mp4"
  file.unlink()
  file.write_bytes(b"no video")
  browser = open_report(small)
  choose(browser, outcome="videos")
  press(browser, "j")
  says = (
    "return [...document.querySelectorAll('article.now .screen')].map(s => s.innerText)"
  )
  gone = "The store no longer has this video."
  assert browser.execute_script(says) == ["", gone, "", "", ""]
  press(browser, "j")
  bad = ["", "", "This video cannot be played.", "", ""]
  chromium.until(browser, lambda: browser.execute_script(says) == bad)
  press(browser, " ")
  times = (
    "return [...document.querySelectorAll('article.now video')].map(v => v.currentTime)"
  )
  chromium.until(browser, lambda: sorted(browser.execute_script(times))[1] > 0.2)


def test_suites_and_video_models_are_chosen(small, open_report):
  browser = open_report(small)
  press(browser, "j")
  select.Select(browser.find_element(By.ID, "model")).select_by_value("second")
  press(browser, "j")
  press(browser, "j")
  assert "model=second" in browser.execute_script("return location.hash")
  summary = browser.find_element(By.CSS_SELECTOR, "article.now summary")
  summary.click()
  opened = browser.find_element(By.CSS_SELECTOR, "article.now details")
  chromium.until(browser, lambda: "Video model second" in opened.text)
  (take,) = content(small)["rows"][1]["videos"]["second"]["takes"]
  assert str(take["noise"]) in opened.text
  for video_id in take["videos"]:
    assert video_id in opened.text
  choose(browser, suite="query_alignment")
  chromium.until(
    browser,
    lambda: "suite=query_alignment" in browser.execute_script("return location.hash"),
  )
  choose(browser, measure="aligned", outcome="better", **{"from": "sft", "to": "vpo"})
  said = small.found.verdicts
  assert listed(browser) == [
    query
    for query in small.found.items
    if (said["vpo"][query] == "aligned") > (said["sft"][query] == "aligned")
  ]
  choose(browser, outcome="all")
  press(browser, "j")
  assert not browser.find_elements(By.CSS_SELECTOR, "video")
  text = browser.find_element(By.CSS_SELECTOR, "article.now .systems").text
  assert f"prompt: {said['vpo']['0']}" in text


def test_missing_data_are_named(small, driver):
  (small.path.parent / "report" / "test.js").unlink()
  driver.get("about:blank")
  driver.get(small.path.as_uri())
  failure = driver.find_element(By.ID, "failure")
  chromium.until(driver, failure.is_displayed)
  assert "report/test.js cannot be read" in failure.text
  driver.get_log("browser")  # the browser's own line on the missing file
