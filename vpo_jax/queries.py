"""Reads users' queries from all supported file formats.

`read` yields the rows of a file as they are, for `curate`; `load` returns the valid
queries, for stages that use them without curation. An invalid row carries its problem,
so that stages can count it and set it aside. An unreadable file raises `UserError`.
"""

import collections
import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from vpo_jax import errors, files, json_input, records

SHIPPED = epath.Path(__file__).parent / "curate" / "queries.jsonl"

# The columns of VidProM with scores of Detoxify.
TOXICITY = (
  "toxicity",
  "obscene",
  "identity_attack",
  "insult",
  "threat",
  "sexual_explicit",
)
JSON = (".json", ".jsonl")
TEXT_KEYS = ("text", "prompt", "query")
# Characters; larger than any field, so that overlong queries are read and set aside.
_FIELD_LIMIT = 1 << 24


@dataclasses.dataclass(frozen=True)
class Raw:
  """One row of a file of queries.

  Attributes:
    text: the query; of an invalid row, whatever could be read.
    category: the category in the source; None if it has none.
    scores: Detoxify's scores in [0, 1] in the order of `TOXICITY`, NaN for a missing
      column; empty if the source has none of the columns.
    problem: why the row is invalid; "" if it is valid.
    id: the id in the source; "" if it has none.
    flags: Pika's and Midjourney's flags, if curation moved them out of `text`.
  """

  text: str
  category: records.Category | None = None
  scores: tuple[float, ...] = ()
  problem: str = ""
  id: str = ""
  flags: str = ""


def read(path: epath.PathLike) -> Iterator[Raw]:
  """Reads queries from a file; the format follows from the file's extension.

  `.json` or `.jsonl`: strings, objects with a key "text", "prompt" or "query" (and
  optionally "category", "id", "flags"), for example a `records.Query`, or rows of the
  release ({"messages": …}), from which the query is extracted. `.csv`: VidProM, or any
  CSV with a column of one of these names. `.txt`: one query per line; empty lines are
  skipped. A folder: the data set that `curate.arrays.VidProM` built from any of these.

  Raises:
    UserError: the file is missing, has another extension, is not JSON in UTF-8 (rows of
      CSV and text files may be Windows-1252), or has no column of queries.
  """
  path = epath.Path(path)
  if path.is_dir():
    yield from _arrays(path)
    return
  if path.suffix.lower() in JSON:
    yield from map(_raw, json_input.rows(path))
    return
  formats = {".csv": _csv, ".txt": _text}
  parse = formats.get(path.suffix.lower())
  if parse is None:
    raise errors.UserError(
      f"{path}: queries are read from {', '.join((*JSON, *formats))} files, not"
      f" {path.suffix!r}"
    )
  if not path.exists():
    raise errors.UserError(f"{path}: no such file")
  with path.open("rb") as file:
    # A byte that is not UTF-8 becomes a lone surrogate; `_decode_cp1252` handles it.
    lines = io.TextIOWrapper(
      _utf8(path, file), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )
    for raw in parse(path, lines):
      yield _decode_cp1252(raw)


def load(
  path: epath.PathLike,
) -> tuple[list[records.Query], list[records.SetAside]]:
  """The queries of a file in order, and the rows that are not valid queries.

  Reads the same files as `read` and does not change texts. A row without an id gets the
  hash of its text; a row without a category is general, whatever its scores.

  Returns:
    queries with distinct ids, and rows to set aside (damaged, empty, repeated) with the
    reason.

  Raises:
    UserError: as `read`, or the file has no valid query.
  """
  found: dict[str, records.Query] = {}
  aside = []
  for raw in read(path):
    text = raw.text.strip()
    identity = raw.id or records.row_id(text)
    problem = raw.problem or ("" if text else "empty")
    if not problem and identity in found:
      same = found[identity].text == text
      problem = "repeats an earlier row" if same else "has the id of an earlier row"
    if problem:
      aside.append(records.SetAside(identity, text[:200], problem))
    else:
      found[identity] = records.Query(
        identity, text, raw.category or "general", raw.flags
      )
  if not found:
    why = f"; the first row: {aside[0].reason}" if aside else ""
    raise errors.UserError(f"{path}: no valid query{why}")
  return list(found.values()), aside


def _arrays(folder: epath.Path) -> Iterator[Raw]:
  if files.is_bucket(folder):
    raise errors.UserError(f"{folder}: a data set of TFDS must be on a local disk")
  if not (folder / "dataset_info.json").exists():
    raise errors.UserError(f"{folder}: not a data set of TFDS (no dataset_info.json)")
  import tensorflow_datasets as tfds  # optional, and slow to import

  builder: Any = tfds.builder_from_directory(str(folder))
  for row in builder.as_data_source(split="train"):
    if row.keys() != {field.name for field in dataclasses.fields(Raw)}:
      raise errors.UserError(f"{folder}: has the columns {', '.join(row)}, not queries")
    scores = tuple(row.pop("scores").tolist())
    texts: dict[str, Any] = {name: value.decode() for name, value in row.items()}
    texts["category"] = texts["category"] or None
    yield Raw(**texts, scores=() if all(map(math.isnan, scores)) else scores)


def _utf8(path: epath.Path, file: Any) -> Any:
  start = file.read(8)
  # Without a mark, every second byte of an English text is zero.
  if start[:2] in (b"\xff\xfe", b"\xfe\xff") or (
    len(start) == 8 and (not any(start[::2]) or not any(start[1::2]))
  ):
    raise errors.UserError(f"{path}: UTF-16 text; save it as UTF-8")
  file.seek(0)
  return file


def _text(path: epath.Path, lines: io.TextIOWrapper) -> Iterator[Raw]:
  del path
  for line in lines:
    if line.strip():
      yield Raw(line.strip())


def _raw(found: json_input.Row) -> Raw:
  raw = _value(found.value)
  return dataclasses.replace(raw, problem=raw.problem or found.problem)


def _value(row: Any) -> Raw:
  if isinstance(row, str):
    return Raw(row)
  if isinstance(row, Mapping) and "messages" in row:
    return _from_messages(row)
  text = None
  if isinstance(row, Mapping):
    text = next((row[key] for key in TEXT_KEYS if key in row), None)
  if not isinstance(text, str):
    return Raw(json.dumps(row), problem=f"no text under {', '.join(TEXT_KEYS)}")
  category, flags, identity = (row.get(key) for key in ("category", "flags", "id"))
  if category not in (None, "general", "safety"):
    return Raw(text, problem=f"category {category!r} is not general or safety")
  if not isinstance(flags, str | None):
    return Raw(text, problem=f"flags {flags!r} are not a string")
  identity = "" if identity is None else str(identity)
  return Raw(text, category, id=identity, flags=flags or "")


def _from_messages(row: Mapping[str, Any]) -> Raw:
  """The last user turn; in a row of the release, the query inside its template."""
  content = None
  for turn in row["messages"] if isinstance(row["messages"], list) else ():
    if isinstance(turn, Mapping) and turn.get("role", "user") == "user":
      content = turn.get("content")
  if isinstance(content, list):
    texts = [str(one["text"]) for one in content if _is_text_part(one)]
    content = "".join(texts) if len(texts) == len(content) else None
  if not isinstance(content, str):
    return Raw(json.dumps(row), problem="messages without a user's turn of text")
  return Raw(of_instruction(content))


def _is_text_part(part: Any) -> bool:
  return isinstance(part, Mapping) and isinstance(part.get("text"), str)


def of_instruction(content: str) -> str:
  """The query in a user's turn of the release; the whole turn if it has no marker."""
  _, found, query = content.partition("User Query:")
  if not found:
    return content.strip()
  before, found, _ = query.rpartition("Video Prompt:")
  return (before if found else query).strip()


def _csv(path: epath.Path, lines: io.TextIOWrapper) -> Iterator[Raw]:
  limit = csv.field_size_limit(_FIELD_LIMIT)
  try:
    table = _records(lines)
    _, first = next(table, (1, []))
    if isinstance(first, csv.Error):
      raise errors.UserError(f"{path}:1: the first line is not CSV: {first}")
    header = [name.strip().lower() for name in first]
    column = next((header.index(key) for key in TEXT_KEYS if key in header), None)
    if column is None:
      raise errors.UserError(
        f"{path}: none of the columns {', '.join(TEXT_KEYS)} in the first line"
        f" ({', '.join(header)[:200]})"
      )
    scores = [header.index(name) if name in header else None for name in TOXICITY]
    scores = scores if any(place is not None for place in scores) else []
    for line, fields in table:
      if isinstance(fields, csv.Error):
        yield Raw(f"line {line}", problem=f"line {line}: not CSV: {fields}")
      elif fields:
        yield _fields(fields, line, len(header), column, scores)
  finally:
    csv.field_size_limit(limit)


def _records(lines: Iterator[str]) -> Iterator[tuple[int, list[str] | csv.Error]]:
  """The records of a CSV file, each with the number of its first line.

  An unclosed quote swallows all following lines into one field. So when a record is
  invalid, only its first line is dropped, and the following lines are parsed again.
  """
  pending: collections.deque[str] = collections.deque()
  consumed: list[str] = []

  def feed() -> Iterator[str]:
    while (line := pending.popleft() if pending else next(lines, None)) is not None:
      consumed.append(line)
      yield line

  number, table = 1, csv.reader(feed(), strict=True)
  while True:
    consumed.clear()
    try:
      fields = next(table)
    except StopIteration:
      return
    except csv.Error as error:
      yield number, error
      pending.extendleft(reversed(consumed[1:]))
      number, table = number + 1, csv.reader(feed(), strict=True)
      continue
    yield number, fields
    number += len(consumed)


def _fields(
  fields: list[str], line: int, width: int, column: int, scores: list[int | None]
) -> Raw:
  if len(fields) != width:
    text = fields[column] if column < len(fields) else ",".join(fields)
    problem = f"line {line} has {len(fields)} fields, the first line has {width}"
    return Raw(text, problem=problem)
  try:
    values = (math.nan if place is None else float(fields[place]) for place in scores)
    return Raw(fields[column], scores=tuple(values))
  except ValueError as error:
    return Raw(fields[column], problem=f"line {line}: {error}")


def _decode_cp1252(raw: Raw) -> Raw:
  """Decodes a row that is not UTF-8 as Windows-1252, the most common alternative."""
  try:
    raw.text.encode()
    return raw
  except UnicodeEncodeError:
    pass
  try:
    text = raw.text.encode("utf-8", "surrogateescape").decode("cp1252")
  except UnicodeError:
    text = ""
  # In languages that Windows-1252 has, most letters are those of ASCII.
  letters = [letter for letter in text if not letter.isspace()]
  if 2 * sum(not letter.isascii() for letter in letters) < len(letters):
    return dataclasses.replace(raw, text=text)
  text = raw.text.encode("utf-8", "replace").decode()
  problem = raw.problem or "damaged: neither UTF-8 nor Windows-1252"
  return dataclasses.replace(raw, text=text, problem=problem)
