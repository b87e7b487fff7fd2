"""Headless Chromium for the tests of pages."""

import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.support import wait

from tests import waiting

_BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
_DRIVER = shutil.which("chromedriver")
_FLAGS = (
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
)

needed = pytest.mark.skipif(
  not (_BROWSER and _DRIVER),
  reason="no chromium and chromedriver: apt-get install chromium chromium-driver",
)


def start(profile):
  """Starts a browser that logs its console; `profile` is its folder."""
  options = webdriver.ChromeOptions()
  options.binary_location = _BROWSER
  for flag in (*_FLAGS, f"--user-data-dir={profile}"):
    options.add_argument(flag)
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  return webdriver.Chrome(options=options, service=webdriver.ChromeService(_DRIVER))


def until(browser, condition):
  """Waits until `condition()` is true and what it looks for is on the page."""
  waits = wait.WebDriverWait(browser, waiting.LIMIT_S, 0.02)
  return waits.until(lambda _: condition())
