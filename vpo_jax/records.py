"""The rows that stages exchange, and their JSON Lines files.

A row's id is a hash of its content, not its position in a file.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeVar

import pydantic
from etils import epath

from vpo_jax import errors, files, json_input

Category = Literal["general", "safety"]


@dataclasses.dataclass(frozen=True)
class Query:
  """A user's query to a text-to-video model: x in the paper.

  Attributes:
    flags: Pika's and Midjourney's flags, if curation moved them out of `text`. They
      are kept for the record: policy, teacher and judges all get `text` alone, so that
      no judge uses information that the policy did not have.
  """

  id: str
  text: str
  category: Category = "general"
  flags: str = ""


@dataclasses.dataclass(frozen=True)
class SafetyLabel:
  """An LLM's judgement of a query that may be unsafe (paper, section 3.2).

  Attributes:
    categories: categories of the paper's figure 7; empty if the query is harmless.
    reason: the reason, in one sentence.
  """

  id: str
  text: str
  unsafe: bool
  categories: tuple[str, ...]
  reason: str


@dataclasses.dataclass(frozen=True)
class SftExample:
  """A query with the prompt the teacher wrote for it (paper, section 3.2).

  Attributes:
    generated: the few-shot prompt, p.
    critique: the judge's critique of p, c.
    refined: p refined according to c; None if c found no flaw.
    prompt: the training target, s: `refined`, or `generated` if that is None.
  """

  query_id: str
  query: str
  category: Category
  generated: str
  critique: str
  refined: str | None
  prompt: str


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One sampled prompt, p_k.

  Attributes:
    index: k, from 0.
    finish_reason: "stop" if the model ended it, "length" at the token limit.
    tokens: the number of new tokens, including the end token.
  """

  index: int
  prompt: str
  finish_reason: Literal["stop", "length"]
  tokens: int


@dataclasses.dataclass(frozen=True)
class Candidates:
  """All candidates of one query, and how they were sampled; `flags` as in `Query`."""

  query_id: str
  query: str
  category: Category
  model: str
  settings: dict[str, Any]
  candidates: tuple[Candidate, ...]
  flags: str = ""


@dataclasses.dataclass(frozen=True)
class Judged:
  """A candidate after the text-level check (paper, section 3.3).

  Attributes:
    passed: the judge found no flaw.
    refined: the prompt refined according to the critique; None if it passed or the
      refinement failed.
  """

  id: str
  query_id: str
  query: str
  index: int
  prompt: str
  critique: str
  passed: bool
  refined: str | None


@dataclasses.dataclass(frozen=True)
class Video:
  """One rendered video of a candidate; the fields are those of `Scored`."""

  query_id: str
  query: str
  index: int
  prompt: str
  video_id: str
  seed: int


@dataclasses.dataclass(frozen=True)
class Scored:
  """One video of a candidate, with its score.

  Attributes:
    index: the candidate's index, k.
    seed: the number of the video among the candidate's videos.
    reward: R, the sum of the weights of the questions answered yes.
    signed: S, the mean over questions of weight x (+1 or -1).
    groups: the part of R from each group of questions, or from each named reward.
    yes: the answers, in the order of the questions; empty for a scorer with named
      rewards.
    scalars: named rewards or measurements, if the scorer returns any.
    lost_tokens: tokens of the prompt that the video model's text encoder did not read.
  """

  query_id: str
  query: str
  index: int
  prompt: str
  video_id: str
  seed: int
  reward: float
  signed: float
  groups: dict[str, float]
  yes: tuple[bool, ...]
  scalars: dict[str, float]
  lost_tokens: int = 0


@dataclasses.dataclass(frozen=True)
class Pair:
  """One preference pair of D_text or D_video.

  Attributes:
    margin: R(chosen) - R(rejected), in the scale of the reward; None for text pairs.
  """

  query_id: str
  query: str
  chosen: str
  rejected: str
  source: Literal["text", "video"]
  margin: float | None = None


@dataclasses.dataclass(frozen=True)
class Response:
  """A candidate with everything that is known of it.

  Attributes:
    index: the candidate's index, k.
    passed: the judge found no flaw; None if it was not judged.
    refined: the prompt refined according to the critique, if it was flawed.
    reward: R, the mean over its videos; None if none was scored.
    groups: the parts of R, as in `Scored`.
    scalars: as in `Scored`.
  """

  index: int
  prompt: str
  passed: bool | None
  refined: str | None
  reward: float | None
  groups: dict[str, float]
  scalars: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Group:
  """All different candidates of one query, in the order in which they were sampled.

  Attributes:
    model: fingerprint of the model that wrote them.
  """

  query_id: str
  query: str
  category: Category
  model: str
  responses: tuple[Response, ...]


@dataclasses.dataclass(frozen=True)
class SetAside:
  """A row that a stage could not use, and why."""

  id: str
  text: str
  reason: str


Row = TypeVar("Row")


def row_id(*parts: str | int) -> str:
  """A hash of the parts and their order, as 16 hex digits."""
  content = json.dumps(parts, ensure_ascii=True)
  return hashlib.sha256(content.encode()).hexdigest()[:16]


def dump(row: Any) -> str:
  """A row as one line of JSON."""
  return json.dumps(dataclasses.asdict(row), ensure_ascii=False)


def write(path: epath.PathLike, rows: Iterable[Any]) -> int:
  """Writes rows as JSON Lines, atomically; returns their number."""
  count = 0
  with files.publish(path) as file:
    for row in rows:
      file.write(dump(row) + "\n")
      count += 1
  return count


def read(path: epath.PathLike, row_type: type[Row]) -> Iterator[Row]:
  """Reads the rows of a stage's file.

  Raises:
    UserError: the file is missing or not UTF-8, or a line is not a valid `row_type`.
  """
  path = epath.Path(path)
  if not path.exists():
    raise errors.UserError(f"{path}: no such file; run the stage that makes it first")
  adapter = pydantic.TypeAdapter(row_type)
  for number, line in json_input.lines(path):
    try:
      yield adapter.validate_json(line)
    except pydantic.ValidationError as error:
      first = error.errors()[0]
      where = ".".join(str(part) for part in first["loc"])
      reason = f"{where}: {first['msg']}" if where else first["msg"]
      raise errors.UserError(
        f"{path}:{number}: not a {row_type.__name__} row: {reason}"
      ) from error
