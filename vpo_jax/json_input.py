"""Reads JSON and JSON Lines that a user, a stage or another program wrote.

Text is UTF-8, with or without a byte order mark. Lines end at "\\n" only: a string may
contain other line separators, such as U+2028. JSON can escape half of a surrogate pair,
which no file or model can hold; such rows carry a problem, for the caller to set them
aside.
"""

import codecs
import dataclasses
import errno
import json
import re
from collections.abc import Iterator
from typing import Any

from etils import epath

from vpo_jax import errors

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class Row:
  """One value of a file of rows.

  Attributes:
    place: where it is in the file: "line 3", or "row 3" of a JSON list, from 1.
    value: the value; with a problem, as far as it can be written to a log.
    problem: why the row cannot be used; "" if it can.
  """

  place: str
  value: Any
  problem: str = ""


def lines(path: epath.PathLike) -> Iterator[tuple[int, str]]:
  """The lines of a file that are not blank, with their numbers from 1.

  Raises:
    UserError: the file cannot be read, or is not UTF-8; names the byte.
  """
  path = epath.Path(path)
  start = 0
  with _open(path) as file:
    for number, line in enumerate(file, start=1):
      text = _decode(line, path, start)
      start += len(line)
      if text.strip():
        yield number, text


def rows(path: epath.PathLike) -> Iterator[Row]:
  """The rows of a JSON list or of a JSON Lines file; the content tells which it is.

  Raises:
    UserError: the file cannot be read, or is not UTF-8 text or JSON.
  """
  path = epath.Path(path)
  with _open(path) as file:
    start = file.read(1 << 16).removeprefix(codecs.BOM_UTF8).lstrip()
  if start.startswith(b"["):
    for number, found in enumerate(value(path), start=1):
      # The text of one row of a list is not known, so every row is checked.
      yield _row(f"row {number}", found)
    return
  for number, text in lines(path):
    found = _parse(text, path, number)
    place = f"line {number}"
    yield _row(place, found) if _ESCAPED_SURROGATE.search(text) else Row(place, found)


def value(path: epath.PathLike) -> Any:
  """The value in a JSON file.

  Raises:
    UserError: the file cannot be read, or is not UTF-8 text or JSON.
  """
  path = epath.Path(path)
  try:
    content = _content(path)
  except OSError as error:
    if error.errno != errno.EBUSY:
      raise
    content = _content(path)  # of a bucket's object that was replaced in the meantime
  return _parse(_decode(content, path, 0), path)


def fields(path: epath.Path) -> dict[str, Any]:
  """The JSON object in a file.

  Raises:
    UserError: as `value`, or the file has another JSON value.
  """
  found = value(path)
  if not isinstance(found, dict):
    raise errors.UserError(f"{path}: not a JSON object")
  return found


def repair(found: Any) -> Any:
  """Replaces every half of a surrogate pair in a value by U+FFFD."""
  if isinstance(found, str):
    return _SURROGATE.sub("\ufffd", found)
  if isinstance(found, list):
    return [repair(item) for item in found]
  if isinstance(found, dict):
    return {repair(key): repair(item) for key, item in found.items()}
  return found


def _row(place: str, found: Any) -> Row:
  repaired = repair(found)
  problem = "" if repaired == found else "a string has half of a surrogate pair"
  return Row(place, repaired, problem)


def _content(path: epath.Path) -> bytes:
  with _open(path) as file:
    return file.read()


def _parse(text: str, path: epath.Path, line: int = 0) -> Any:
  """The value of a file's text, or of one of its lines if `line` is its number."""
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    hint = "; rows are a JSON list, or one JSON value per line" if line == 1 else ""
    raise errors.UserError(
      f"{path}:{line or error.lineno}: not JSON: {error.msg}{hint}"
    ) from error
  except RecursionError as error:
    raise errors.UserError(f"{path}:{line or 1}: JSON nested too deeply") from error
  except ValueError as error:  # a number with thousands of digits
    raise errors.UserError(f"{path}:{line or 1}: not JSON: {error}") from error


def _open(path: epath.Path) -> Any:
  try:
    return path.open("rb")
  except FileNotFoundError as error:
    raise errors.UserError(f"{path}: no such file") from error
  except OSError as error:
    reason = error.strerror or str(error)
    raise errors.UserError(f"{path}: cannot be read: {reason}") from error


def _decode(content: bytes, path: epath.Path, start: int) -> str:
  """Decodes bytes that begin at byte `start` of a file."""
  if start == 0:
    if content.startswith(_UTF16):
      raise errors.UserError(f"{path}: UTF-16 text; save it as UTF-8")
    without = content.removeprefix(codecs.BOM_UTF8)
    start, content = len(content) - len(without), without
  try:
    return content.decode()
  except UnicodeDecodeError as error:
    raise errors.UserError(
      f"{path}: byte {start + error.start} is not UTF-8; save the file as UTF-8"
    ) from error
