"""The rows that a run, its renderers and its scorers exchange, and their files.

Uses the standard library only, so that any interpreter can import it. `README.md` in
this folder says what each row means and who writes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

VERSION = 1

# Exit codes of a worker. 1 is any other error, with a traceback in the log.
EXIT_DONE = 0
EXIT_USAGE = 2  # a wrong flag or job file
EXIT_IMPORT = 3  # the interpreter lacks a required package
EXIT_MODEL = 4  # the model cannot be loaded, or cannot serve any request
EXIT_DISK = 5  # the disk is full
EXIT_FRESH = 6  # a request's last try needs a fresh process
EXIT_SAVED = 75  # training that saved its state on SIGTERM; EX_TEMPFAIL of sysexits.h

TRIES = 3  # failures of one request before it is set aside
TEMPORARY = ".aside-"  # prefix of files that are being written


@dataclasses.dataclass(frozen=True)
class RenderRequest:
  """One video to render.

  Attributes:
    id: the video's id, a hash of the prompt, model, settings and seed.
    model: the hub id with its revision, or the fingerprint of the model directory, and
      those of a LoRA.
    settings: everything that changes the frames: size, steps, guidance, fps, dtype, ...
    seed: of the noise, 0 to 2^31 - 1. The noise depends on nothing else, so videos that
      are compared should share it.
  """

  id: str
  prompt: str
  model: str
  settings: dict
  seed: int
  version: int = VERSION


@dataclasses.dataclass(frozen=True)
class RenderedVideo:
  """One rendered video; its file is published before this row.

  Attributes:
    path: of the mp4 file, relative to the store.
    seconds: the video's length.
    lost_tokens: tokens of the prompt beyond the text encoder's limit.
    settings: the request's, as used.
    made_by: the renderer, versions and device, for information.
    work_seconds: time spent by the renderer.
  """

  id: str
  path: str
  sha256: str
  frames: int
  fps: float
  width: int
  height: int
  seconds: float
  lost_tokens: int
  settings: dict
  made_by: dict
  work_seconds: float
  version: int = VERSION


@dataclasses.dataclass(frozen=True)
class ScoreRequest:
  """One video to score.

  Attributes:
    id: the answers' id, a hash of the video, scorer and text.
    text: replaces `[[prompt]]` in a question.
    text_role: "query" (the user's words) or "prompt" (the rewritten one).
  """

  id: str
  video_id: str
  text: str
  text_role: str
  version: int = VERSION


@dataclasses.dataclass(frozen=True)
class Answers:
  """A scorer's raw answers for one video, from which any reward can be computed.

  Attributes:
    yes: the answer to each question, in the order of the question file.
    p_yes: the probability of yes, 0 to 1.
    scalars: named rewards of scorers that ask no questions.
    revision: of the scorer's model or code.
    questions: fingerprint of the question file.
    weights: fingerprint of the weight file.
  """

  id: str
  video_id: str
  yes: list
  p_yes: list
  scalars: dict
  text_role: str
  scorer: str
  revision: str
  questions: str
  weights: str
  work_seconds: float
  version: int = VERSION


@dataclasses.dataclass(frozen=True)
class VideoPair:
  """Two videos of one prompt, one of which is preferred.

  Attributes:
    prompt: as the video model receives it.
    query: the user's words.
    chosen, rejected: mp4 files, relative to the store or absolute.
    margin: R(chosen) - R(rejected), in the scale of the reward.
  """

  id: str
  prompt: str
  query: str
  chosen: str
  rejected: str
  margin: float
  version: int = VERSION


@dataclasses.dataclass(frozen=True)
class EncodeRequest:
  """A video or a prompt to encode for training.

  Attributes:
    id: a hash of the content, the model and the settings that change the encoding.
    path: of the video's file; "" for a prompt.
    prompt: as the video model receives it; "" for a video.
  """

  id: str
  path: str
  prompt: str
  version: int = VERSION


@dataclasses.dataclass(frozen=True)
class EncodedPair:
  """A `VideoPair` whose videos and prompt are encoded.

  Attributes:
    prompt, chosen, rejected: the ids of the `EncodeRequest`s.
  """

  id: str
  prompt: str
  chosen: str
  rejected: str
  version: int = VERSION


@dataclasses.dataclass(frozen=True)
class Failure:
  """A request without a result.

  Attributes:
    stage: "request" (a bad row), "render", "video" (a damaged file), "score" or
      "encode".
  """

  id: str
  stage: str
  reason: str
  tries: int
  version: int = VERSION


Row = TypeVar("Row")

_TYPES = {
  "str": str,
  "int": int,
  "float": (int, float),
  "dict": dict,
  "list": list,
}


class BadRow(ValueError):
  """A line that is not a row of the expected type; the message says why."""


def content_id(*parts: Any) -> str:
  """A hash of all parts, 16 hex digits; key order does not matter."""
  content = json.dumps(parts, sort_keys=True, ensure_ascii=True)
  return hashlib.sha256(content.encode()).hexdigest()[:16]


def render_request(
  prompt: str, model: str, settings: Mapping[str, Any], seed: int
) -> RenderRequest:
  settings = dict(settings)
  return RenderRequest(
    content_id(prompt, model, settings, seed), prompt, model, settings, seed
  )


def score_request(
  video_id: str, scorer: str, text: str, text_role: str
) -> ScoreRequest:
  return ScoreRequest(
    content_id(video_id, scorer, text, text_role), video_id, text, text_role
  )


# The settings that change the encoding of a video or a prompt.
_ENCODING = (
  "pipeline",
  "dtype",
  "vae_dtype",
  "tiling",
  "height",
  "width",
  "num_frames",
  "text_tokens",
  "tokenizer",
  "call",
)


def encode_request(
  model: str,
  settings: Mapping[str, Any],
  *,
  path: str = "",
  sha256: str = "",
  prompt: str = "",
) -> EncodeRequest:
  """A request to encode a file with this hash, or a prompt."""
  used = {name: settings[name] for name in _ENCODING if name in settings}
  content = ("video", sha256) if path else ("prompt", prompt)
  return EncodeRequest(content_id(*content, model, used), path, prompt)


def dump(row: Any) -> str:
  return json.dumps(dataclasses.asdict(row), ensure_ascii=False)


def parse(line: str | bytes, row_type: type[Row]) -> Row:
  """One row from a line of JSON.

  Raises:
    BadRow: not JSON, another version, or a missing, unknown or mistyped field.
  """
  try:
    found = json.loads(line)
  except ValueError as error:
    raise BadRow(f"not JSON: {error}") from error
  if not isinstance(found, dict):
    raise BadRow("not a JSON object")
  if found.get("version", VERSION) != VERSION:
    raise BadRow(f"version {found['version']!r}, this program supports {VERSION}")
  for field in dataclasses.fields(row_type):  # type: ignore[arg-type]
    if field.name not in found:
      if field.default is dataclasses.MISSING:
        raise BadRow(f"{field.name} is missing")
    elif not _fits(found[field.name], str(field.type)):
      raise BadRow(f"{field.name} is not a {field.type}")
  try:
    return row_type(**found)
  except TypeError as error:
    raise BadRow(str(error).replace("__init__() ", "")) from error


def preset(name: str) -> dict[str, Any]:
  """The settings of a known model by its name, or those in a JSON file by its path.

  In a file, a `model` that is a directory may be relative to the file's directory.

  Raises:
    KeyError: no such preset (the message lists the known ones), or a file that does
      not hold a JSON object.
  """
  if name.endswith(".json"):
    path = pathlib.Path(name)
    try:
      found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
      raise KeyError(f"{name}: not a JSON object of settings: {error}") from error
    model = path.parent / str(found.get("model", ""))
    if found.get("model") and model.is_dir():
      found["model"] = str(model.resolve())
    return found
  known = presets()
  if name not in known:
    raise KeyError(f"no preset {name!r}; known presets: {', '.join(sorted(known))}")
  return known[name]


def presets() -> dict[str, dict[str, Any]]:
  """The settings of every known model, by name."""
  path = pathlib.Path(__file__).with_name("presets.json")
  return json.loads(path.read_text(encoding="utf-8"))


def _fits(value: Any, type_name: str) -> bool:
  return isinstance(value, _TYPES[type_name]) and not isinstance(value, bool)


def read_rows(path: str | os.PathLike, row_type: type[Row]) -> Iterator[Row | Failure]:
  """The rows of a JSON Lines file; for a bad line, a `Failure` with its number."""
  path = pathlib.Path(path)
  with path.open("rb") as file:
    for number, line in enumerate(file, start=1):
      try:
        yield parse(line, row_type)
      except BadRow as error:
        place = f"{path.name}:{number}"
        yield Failure(content_id(place), "request", f"{place}: {error}", 1)


def write_rows(path: str | os.PathLike, rows: Iterable[Any]) -> None:
  with publish(path) as file:
    file.writelines(f"{dump(row)}\n".encode() for row in rows)


def read_row(path: str | os.PathLike, row_type: type[Row]) -> Row | None:
  """The row in a file; None if the file is missing or holds no such row."""
  try:
    return parse(pathlib.Path(path).read_bytes(), row_type)
  except (FileNotFoundError, BadRow):
    return None


@contextlib.contextmanager
def publish(path: str | os.PathLike) -> Iterator[Any]:
  """Opens a binary file that appears under its name only once complete and synced."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}"
  try:
    with temporary.open("wb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def sync(path: str | os.PathLike) -> None:
  """Flushes a written file to the disk."""
  with pathlib.Path(path).open("rb+") as file:
    os.fsync(file.fileno())


def publish_row(path: str | os.PathLike, row: Any) -> None:
  with publish(path) as file:
    file.write(dump(row).encode())


def sha256(path: str | os.PathLike) -> str:
  digest = hashlib.sha256()
  with pathlib.Path(path).open("rb") as file:
    while block := file.read(1 << 22):
      digest.update(block)
  return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Store:
  """Finished work by id; several runs may share one folder."""

  root: pathlib.Path

  def video(self, video_id: str) -> pathlib.Path:
    return self.root / "videos" / video_id[:2] / f"{video_id}.mp4"

  def rendered(self, video_id: str) -> pathlib.Path:
    return self.video(video_id).with_suffix(".json")

  def answers(self, answers_id: str) -> pathlib.Path:
    return self.root / "answers" / answers_id[:2] / f"{answers_id}.json"

  def encoded(self, request_id: str) -> pathlib.Path:
    return self.root / "encoded" / request_id[:2] / f"{request_id}.safetensors"

  def find_video(self, video_id: str) -> RenderedVideo | None:
    """The video's row, if the file still has the published bytes."""
    row = read_row(self.rendered(video_id), RenderedVideo)
    if row is None or row.id != video_id:
      return None
    try:
      return row if sha256(self.root / row.path) == row.sha256 else None
    except FileNotFoundError:
      return None

  def find_answers(self, answers_id: str) -> Answers | None:
    row = read_row(self.answers(answers_id), Answers)
    return row if row is not None and row.id == answers_id else None
