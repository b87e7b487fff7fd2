"""Reads users' queries, in every form in which they come.

`read` gives rows as they were found, for `curate`; `load` gives queries, for stages
that take them without curation. A row that cannot be a query is told with its problem,
so that it is counted and set aside; a file that cannot be read at all is the user's
mistake and ends the stage.
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

from vpo_jax import errors, records

SHIPPED = epath.Path(__file__).parent / "curate" / "queries.jsonl"

# The columns of VidProM that Detoxify filled.
TOXICITY = (
  "toxicity",
  "obscene",
  "identity_attack",
  "insult",
  "threat",
  "sexual_explicit",
)
TEXT_KEYS = ("text", "prompt", "query")
# A field of this size is read whole, so that it can be set aside by name.
_FIELD_LIMIT = 1 << 24


@dataclasses.dataclass(frozen=True)
class Raw:
  """One row as it was found.

  Attributes:
    text: the query, or what there was of it.
    category: what the source says it is; None when it does not say.
    scores: Detoxify's scores in [0, 1] in the order of `TOXICITY`, NaN for a column
      that the source lacks; empty when it has none of them.
    problem: why the row is not a query; "" when it may be one.
    id: the row's own; "" when the source has none.
    flags: Pika's and Midjourney's flags that a curation moved out of `text`.
  """

  text: str
  category: records.Category | None = None
  scores: tuple[float, ...] = ()
  problem: str = ""
  id: str = ""
  flags: str = ""


def read(path: epath.PathLike) -> Iterator[Raw]:
  """Reads queries from a file; the name's ending says which form it has.

  `.json`: a list of strings, of objects with "text", "prompt" or "query" (and perhaps
  "category", "id", "flags"), or of the release's rows ({"messages": …}), of which the
  query is taken. `.jsonl`: one of those a line, such as `records.Query`. `.csv`:
  VidProM, or any CSV with a column of those names. `.txt`: one query a line, empty
  lines skipped. A folder: what `curate.arrays.VidProM` made of any of these.

  Raises:
    UserError: the file is not there, has another ending, is not UTF-8 text or JSON (the
      line is named), or has no column of queries.
  """
  path = epath.Path(path)
  if path.is_dir():
    yield from _arrays(path)
    return
  forms = {".json": _json, ".jsonl": _jsonl, ".csv": _csv, ".txt": _text}
  form = forms.get(path.suffix.lower())
  if form is None:
    raise errors.UserError(
      f"{path}: queries are read from {', '.join(forms)} files, not {path.suffix!r}"
    )
  if not path.exists():
    raise errors.UserError(f"{path}: no such file of queries")
  with path.open("rb") as file:
    # An unreadable byte becomes a lone surrogate here and is looked at row by row.
    lines = io.TextIOWrapper(
      _utf8(path, file), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )
    for raw in form(path, lines):
      yield _whole(raw)


def load(
  path: epath.PathLike,
) -> tuple[list[records.Query], list[records.SetAside]]:
  """The queries of a file, in its order, and what in it is none.

  Reads what `read` does and changes no text. A row without an id of its own gets the
  hash of its text; one without a category is general, whatever its scores.

  Returns:
    queries with distinct ids; rows to set aside (damaged, empty, repeated), with the
    reason.

  Raises:
    UserError: as `read`, or there is no query in the file.
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
    why = f"; its first row: {aside[0].reason}" if aside else ""
    raise errors.UserError(f"{path}: there is no query in it{why}")
  return list(found.values()), aside


def _arrays(folder: epath.Path) -> Iterator[Raw]:
  if not (folder / "dataset_info.json").exists():
    raise errors.UserError(f"{folder}: a folder, but not one that TFDS made")
  import tensorflow_datasets as tfds  # An extra, and a second to import.

  builder: Any = tfds.builder_from_directory(str(folder))
  for row in builder.as_data_source(split="train"):
    if row.keys() != {field.name for field in dataclasses.fields(Raw)}:
      raise errors.UserError(f"{folder}: holds {', '.join(row)}, not queries")
    scores = tuple(row.pop("scores").tolist())
    texts: dict[str, Any] = {name: value.decode() for name, value in row.items()}
    texts["category"] = texts["category"] or None
    yield Raw(**texts, scores=() if all(map(math.isnan, scores)) else scores)


def _utf8(path: epath.Path, file: Any) -> Any:
  if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
    raise errors.UserError(f"{path}: this is UTF-16 text; save it as UTF-8")
  file.seek(0)
  return file


def _text(path: epath.Path, lines: io.TextIOWrapper) -> Iterator[Raw]:
  del path
  for line in lines:
    if line.strip():
      yield Raw(line.strip())


def _json(path: epath.Path, lines: io.TextIOWrapper) -> Iterator[Raw]:
  try:
    rows = json.loads(lines.read())
  except json.JSONDecodeError as error:
    raise errors.UserError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
  except RecursionError as error:
    raise errors.UserError(f"{path}: JSON nested too deeply") from error
  if not isinstance(rows, list):
    raise errors.UserError(f"{path}: expected a JSON list of queries")
  for row in rows:
    yield _row(row)


def _jsonl(path: epath.Path, lines: io.TextIOWrapper) -> Iterator[Raw]:
  for number, line in enumerate(lines, start=1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except json.JSONDecodeError as error:
      raise errors.UserError(f"{path}:{number}: not JSON: {error.msg}") from error
    except RecursionError as error:
      raise errors.UserError(f"{path}:{number}: JSON nested too deeply") from error
    yield _row(row)


def _row(row: Any) -> Raw:
  if isinstance(row, str):
    return Raw(row)
  if isinstance(row, Mapping) and "messages" in row:
    return of_messages(row)
  text = next((row[key] for key in TEXT_KEYS if key in row), None) if _is(row) else None
  if not isinstance(text, str):
    return Raw(json.dumps(row), problem=f"no text under {', '.join(TEXT_KEYS)}")
  category, flags = row.get("category"), row.get("flags", "")
  if category not in (None, "general", "safety"):
    return Raw(text, problem=f"category {category!r} is not general or safety")
  if not isinstance(flags, str):
    return Raw(text, problem=f"flags {flags!r} are not a text")
  return Raw(text, category, id=str(row.get("id", "")), flags=flags)


def _is(row: Any) -> bool:
  return isinstance(row, Mapping)


def of_messages(row: Mapping[str, Any]) -> Raw:
  """A row of the release: its query stands in the user's turn, inside a template."""
  try:
    content = row["messages"][0]["content"]
  except (IndexError, KeyError, TypeError):
    content = None
  if not isinstance(content, str):
    return Raw(json.dumps(row), problem="messages without a user's turn")
  _, found, query = content.partition("User Query:")
  if not found:
    return Raw(content.strip())
  before, found, _ = query.rpartition("Video Prompt:")
  return Raw((before if found else query).strip())


def _csv(path: epath.Path, lines: io.TextIOWrapper) -> Iterator[Raw]:
  limit = csv.field_size_limit(_FIELD_LIMIT)
  try:
    table = _records(lines)
    _, first = next(table, (1, []))
    if isinstance(first, csv.Error):
      raise errors.UserError(f"{path}:1: its first line is not CSV: {first}")
    header = [name.strip().lower() for name in first]
    column = next((header.index(key) for key in TEXT_KEYS if key in header), None)
    if column is None:
      raise errors.UserError(
        f"{path}: none of the columns {', '.join(TEXT_KEYS)} in its first line"
        f" ({', '.join(header)[:200]})"
      )
    scored = [header.index(name) if name in header else None for name in TOXICITY]
    scored = scored if any(place is not None for place in scored) else []
    for line, fields in table:
      if isinstance(fields, csv.Error):
        yield Raw(f"line {line}", problem=f"line {line}: not CSV: {fields}")
      elif fields:
        yield _fields(fields, line, len(header), column, scored)
  finally:
    csv.field_size_limit(limit)


def _records(lines: Iterator[str]) -> Iterator[tuple[int, list[str] | csv.Error]]:
  """The records of a CSV file, each with the number of its first line.

  A quote that never closes takes all that follows into its field. So where a record
  breaks, its first line alone is given up, and the next ones are read again.
  """
  again: collections.deque[str] = collections.deque()
  taken: list[str] = []

  def feed() -> Iterator[str]:
    while (line := again.popleft() if again else next(lines, None)) is not None:
      taken.append(line)
      yield line

  number, table = 1, csv.reader(feed(), strict=True)
  while True:
    taken.clear()
    try:
      fields = next(table)
    except StopIteration:
      return
    except csv.Error as error:
      yield number, error
      again.extendleft(reversed(taken[1:]))
      number, table = number + 1, csv.reader(feed(), strict=True)
      continue
    yield number, fields
    number += len(taken)


def _fields(
  fields: list[str], line: int, width: int, column: int, scored: list[int | None]
) -> Raw:
  if len(fields) != width:
    text = fields[column] if column < len(fields) else ",".join(fields)
    problem = f"line {line} has {len(fields)} fields, the first line has {width}"
    return Raw(text, problem=problem)
  try:
    scores = (math.nan if place is None else float(fields[place]) for place in scored)
    return Raw(fields[column], scores=tuple(scores))
  except ValueError as error:
    return Raw(fields[column], problem=f"line {line}: {error}")


def _whole(raw: Raw) -> Raw:
  """Reads bytes that are not UTF-8 as Windows-1252, the usual other one."""
  try:
    raw.text.encode()
    return raw
  except UnicodeEncodeError:
    pass
  try:
    text = raw.text.encode("utf-8", "surrogateescape").decode("cp1252")
    return dataclasses.replace(raw, text=text)
  except UnicodeError:
    text = raw.text.encode("utf-8", "replace").decode()
    problem = raw.problem or "damaged: neither UTF-8 nor Windows-1252"
    return dataclasses.replace(raw, text=text, problem=problem)
