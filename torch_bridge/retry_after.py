"""Reads the wait that a server asks for in Retry-After; standard library only."""

from __future__ import annotations

import datetime
import email.utils
import re
import time
from collections.abc import Mapping
from typing import Any


def seconds(headers: Mapping[str, Any]) -> float:
  """Returns the wait in Retry-After (RFC 9110, section 10.2.3), in seconds.

  Reads seconds, fractions and dates, and OpenAI's `retry-after-ms`. A date that has
  passed, or a value that cannot be read, is 0.
  """
  fields = {name.lower(): str(value) for name, value in headers.items()}
  for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
    value = fields.get(name, "")
    number = re.match(r"\s*(\d+\.?\d*|\.\d+)\s*s?\s*(,|$)", value, re.ASCII)
    if number:
      return float(number[1]) / unit
  try:
    date = email.utils.parsedate_to_datetime(fields.get("retry-after", ""))
    if date.tzinfo is None:  # HTTP's dates are in UTC
      date = date.replace(tzinfo=datetime.UTC)
    return max(0.0, date.timestamp() - time.time())
  except (TypeError, ValueError, OverflowError, IndexError):
    return 0.0
