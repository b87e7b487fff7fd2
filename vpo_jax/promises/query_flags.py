"""Flags of Pika and Midjourney in a query: `-camera zoom in`, `-neg …`, `--ar 16:9`.

They are part of the user's request (the critique has a rule on flags), so they are kept
by default. Queries that differ only in flags count as duplicates.
"""

import re

_NUMBER = r"[=:,]?\s*\d[\d.:/x]*"
_CAMERA = (
  r"(?:\s+(?:zoom|pan|rotate|in|out|up|down|left|right|cw|ccw|clockwise"
  r"|counterclockwise|anticlockwise|tilt)\b)*"
)
# A negative prompt ends at the next flag or at the end of the text.
_NEGATIVE = r"(?:(?!\s[-–—]{1,2}\s?[a-z])[\s\S])*"
_FLAG = re.compile(
  r"(?<!\S)[-–—]{1,2}\s?(?:"
  rf"neg(?:ative)?\b{_NEGATIVE}|(?<=--)no\b{_NEGATIVE}"
  rf"|camera\b{_CAMERA}"
  rf"|(?:ar|aspect|motion|gs|fps|seed|size|niji|stylize|chaos|quality)\b(?:{_NUMBER})?"
  # A single letter is a flag only with a number; "plan - b" is text.
  rf"|(?:m|w|v|s|q|c|iw){_NUMBER}"
  r"|(?:hide|tile)\b"
  r")\s*,?",
  re.IGNORECASE,
)
_IS_NEGATIVE = re.compile(r"^[-–—]{1,2}\s?(?:neg(?:ative)?|no)\b[=:\s]*", re.IGNORECASE)
# A caption for the video, which Pika's app appends to the query.
_MESSAGE = re.compile(r"\s*Message:\s*[^\n]*\(Font:\s*\w+\)\s*$")
# Every flag contains one of these, so a text without them has no flags.
_MAYBE = re.compile(r"[-–—]|Message:")


def split(text: str) -> tuple[str, str]:
  """Returns the query without its flags, and the flags ("" if there are none)."""
  if not _MAYBE.search(text):
    return text, ""
  found: list[str] = []

  def take(match: re.Match[str]) -> str:
    found.append(match.group().strip(" ,\n"))
    return " "

  bare = _FLAG.sub(take, _MESSAGE.sub(take, text))
  if not found:
    return text, ""
  return re.sub(r" {2,}", " ", bare).strip(" ,\n"), " ".join(found)


def without_negative(text: str) -> str:
  """The query without its negative flags and what they exclude."""

  def keep(match: re.Match[str]) -> str:
    return " " if _IS_NEGATIVE.match(match.group()) else match.group()

  return _FLAG.sub(keep, text)


def negative(text: str) -> str:
  """What a query's negative flags exclude, such as "blurry"; "" without such a flag."""
  flags = (match.group().strip(" ,\n") for match in _FLAG.finditer(text))
  found = [(flag, _IS_NEGATIVE.match(flag)) for flag in flags]
  excluded = [flag[match.end() :].strip() for flag, match in found if match]
  return ", ".join(filter(None, excluded))
