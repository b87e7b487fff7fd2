"""Pika's and Midjourney's flags in a query: `-camera zoom in`, `-neg …`, `--ar 16:9`.

They are part of what the user asked for (the critique's rule on flags), so they are
kept by default; two queries that differ only in them are one query.
"""

import re

_NUMBER = r"[=:,]?\s*\d[\d.:/x]*"
_CAMERA = (
  r"(?:\s+(?:zoom|pan|rotate|in|out|up|down|left|right|cw|ccw|clockwise"
  r"|counterclockwise|anticlockwise|tilt)\b)*"
)
# A description of what to avoid ends at the next flag, or with the text.
_AVOIDED = r"(?:(?!\s[-–—]{1,2}\s?[a-z])[\s\S])*"
_FLAG = re.compile(
  r"(?<!\S)[-–—]{1,2}\s?(?:"
  rf"neg(?:ative)?\b{_AVOIDED}|(?<=--)no\b{_AVOIDED}"
  rf"|camera\b{_CAMERA}"
  rf"|(?:ar|aspect|motion|gs|fps|seed|size|niji|stylize|chaos|quality)\b(?:{_NUMBER})?"
  # A lone letter is a flag only with its number: "plan - b" is a text.
  rf"|(?:m|w|v|s|q|c|iw){_NUMBER}"
  r"|(?:hide|tile)\b"
  r")\s*,?",
  re.IGNORECASE,
)
# A caption that Pika's app writes on the video, and appends to the query.
_MESSAGE = re.compile(r"\s*Message:\s*[^\n]*\(Font:\s*\w+\)\s*$")
# Every flag has one of these; a text without them need not be searched.
_MAYBE = re.compile(r"[-–—]|Message:")


def part(text: str) -> tuple[str, str]:
  """Parts a query from its flags; `flags` is "" when it has none."""
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
