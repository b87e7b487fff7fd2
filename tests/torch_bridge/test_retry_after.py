import email.utils
import time

import pytest

from torch_bridge import retry_after


@pytest.mark.parametrize(
  ("value", "wait_s"),
  [
    ("2", 2),
    ("0.25", 0.25),
    (".5", 0.5),
    ("2s", 2),
    ("2, 2", 2),
    ("3600", 3600),
    ("9" * 400, float("inf")),
    ("0", 0),
    ("-5", 0),
    ("nan", 0),
    ("soon", 0),
    ("Thu, 99 Foo 2026", 0),
    ("", 0),
  ],
)
def test_seconds_are_read_with_or_without_a_fraction(value, wait_s):
  assert retry_after.seconds({"Retry-After": value}) == wait_s


@pytest.mark.parametrize("wait_s", [30, 3600, 10**6])
@pytest.mark.parametrize(
  "form",
  [
    "%a, %d %b %Y %H:%M:%S GMT",
    "%a, %d %b %Y %H:%M:%S -0000",
    "%A, %d-%b-%y %H:%M:%S GMT",  # RFC 850
    "%a %b %d %H:%M:%S %Y",  # asctime
  ],
)
def test_a_date_is_the_time_until_then(wait_s, form):
  value = time.strftime(form, time.gmtime(time.time() + wait_s))
  found = retry_after.seconds({"retry-after": value})
  assert wait_s - 10 < found <= wait_s


def test_a_date_with_an_offset_is_read():
  value = email.utils.formatdate(time.time() + 30, localtime=True)
  assert 20 < retry_after.seconds({"retry-after": value}) <= 30


def test_a_date_that_has_passed_is_no_wait():
  value = email.utils.formatdate(time.time() - 3600, usegmt=True)
  assert retry_after.seconds({"retry-after": value}) == 0


def test_milliseconds_are_preferred():
  headers = {"retry-after-ms": "250", "retry-after": "1"}
  assert retry_after.seconds(headers) == 0.25
  assert retry_after.seconds({}) == 0
