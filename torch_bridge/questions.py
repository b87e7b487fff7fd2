"""Yes/no questions with weights, as VisionReward asks them.

Part of the contract (standard library only). Two forms of question file:

- `.json`: a list of objects with `question`, `weight` and `group`; a scorer may read
  further keys of its own;
- `.txt`: one question per line, with the weights in a second file: a JSON list, or one
  number per line.

VisionReward has two sets of text files: 64 questions, whose weights are in VPO's
release, and the 29 of them with a weight other than zero, whose weights are in
VisionReward's repository. README.md says where the files are.

`[[prompt]]` in a question is replaced by the user's query.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence

PROMPT = "[[prompt]]"

_ALL = 64  # questions of VisionReward-Video
_SELECT = "_select"  # in the name of the file of 29; without it, the file of all 64
# Ranges of the 64 questions, counted from 1. Source: the order of the question file, by
# the dimensions of MonetBench (VisionReward, arXiv:2412.21059).
_VISIONREWARD_64 = {
  "alignment": [(1, 4)],
  "composition": [(5, 6)],
  "stability": [(7, 10), (36, 37), (44, 49)],
  "quality": [(11, 20), (40, 43)],
  "preservation": [(21, 27)],
  "dynamic": [(28, 35)],
  "fidelity": [(38, 39), (50, 56)],
  "physics": [(57, 60)],
  "safety": [(61, 64)],
}


@dataclasses.dataclass(frozen=True)
class Questions:
  """The questions of a file, in its order.

  Attributes:
    weights: R is the sum of the weights of the questions answered yes.
    groups: the positions of each group's questions, from 0.
    fingerprint: of the question file.
    weights_fingerprint: of the file that holds the weights.
  """

  texts: tuple[str, ...]
  weights: tuple[float, ...]
  groups: dict[str, tuple[int, ...]]
  fingerprint: str
  weights_fingerprint: str


NONE = Questions((), (), {}, "", "")  # of a scorer that gives named rewards


def load(path: str, weights_path: str = "") -> Questions:
  """Reads a question file and its weights.

  Raises:
    ValueError: a file, which the message names, is missing or malformed, or there are
      not as many weights as questions.
  """
  content = _read(path)
  if path.endswith(".json"):
    return _from_json(path, content)
  texts = tuple(line for line in _text(path, content).splitlines() if line.strip())
  if not texts:
    raise ValueError(f"{path}: holds no questions")
  if not weights_path:
    raise ValueError(f"{path}: a text file of questions needs a weight file")
  weights_content = _read(weights_path)
  weights = _weights(weights_path, weights_content)
  weighted = [i for i, weight in enumerate(weights) if weight]
  if len(weights) == len(texts):
    numbers = _numbers(path, texts)
  elif len(weights) == _ALL and len(texts) == len(weighted):
    # The file of 29 holds the questions that have a weight, in the same order.
    numbers, weights = weighted, tuple(weights[i] for i in weighted)
  else:
    raise ValueError(
      f"{path} has {len(texts)} questions, {weights_path} {len(weights)} weights;"
      " each question needs one weight (VisionReward's weight.json belongs to"
      " VisionReward_video_qa_select.txt)"
    )
  return Questions(
    texts,
    weights,
    _visionreward_groups(numbers),
    _fingerprint(content),
    _fingerprint(weights_content),
  )


def fill(question: str, text: str) -> str:
  """The question with `[[prompt]]` replaced; the text itself is not searched."""
  return text.join(question.split(PROMPT))


def _numbers(path: str, texts: Sequence[str]) -> list[int]:
  """The places of the questions among VisionReward's 64, from 0; [] for other files.

  The 29 are looked up by their text in the file of 64, which VisionReward's repository
  has in the same folder. Case, spaces and punctuation are ignored.

  Raises:
    ValueError: the file of 64 is missing, or lacks a question.
  """
  if len(texts) == _ALL:
    return list(range(_ALL))
  file = pathlib.Path(path)
  if not file.stem.endswith(_SELECT):
    return []
  full = file.with_name(file.stem.removesuffix(_SELECT) + file.suffix)
  if not full.is_file():
    raise ValueError(
      f"{path}: the questions' groups come from {full.name}; put it in the same folder"
    )
  places = {
    _key(line): place
    for place, line in enumerate(
      line for line in _text(str(full), _read(str(full))).splitlines() if line.strip()
    )
  }
  if len(places) != _ALL:
    raise ValueError(f"{full}: has {len(places)} different questions, not {_ALL}")
  if unknown := [text for text in texts if _key(text) not in places]:
    raise ValueError(f"{path}: {unknown[0].strip()!r} is not a question of {full}")
  return [places[_key(text)] for text in texts]


def _key(text: str) -> str:
  return "".join(letter for letter in text.lower() if letter.isalnum())


def _visionreward_groups(numbers: Sequence[int]) -> dict[str, tuple[int, ...]]:
  """Each group's positions, of questions with these places among the 64."""
  if not numbers:
    return {}
  return {
    name: tuple(
      position
      for position, number in enumerate(numbers)
      if any(first <= number + 1 <= last for first, last in spans)
    )
    for name, spans in _VISIONREWARD_64.items()
  }


def _from_json(path: str, content: bytes) -> Questions:
  try:
    rows = json.loads(content)
    texts = tuple(str(row["question"]) for row in rows)
    weights = tuple(float(row["weight"]) for row in rows)
    names = [str(row["group"]) for row in rows]
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"{path}: not a list of objects with question, weight and group: {error!r}"
    ) from error
  if not rows:
    raise ValueError(f"{path}: holds no questions")
  groups = {
    name: tuple(i for i, other in enumerate(names) if other == name)
    for name in dict.fromkeys(names)
  }
  fingerprint = _fingerprint(content)
  return Questions(texts, weights, groups, fingerprint, fingerprint)


def _weights(path: str, content: bytes) -> tuple[float, ...]:
  try:
    text = _text(path, content)
    found = json.loads(text) if text.lstrip().startswith("[") else text.split()
    return tuple(float(weight) for weight in found)
  except (ValueError, TypeError) as error:
    raise ValueError(f"{path}: not a list of numbers: {error}") from error


def _read(path: str) -> bytes:
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    raise ValueError(f"{path}: {error.strerror}") from error


def _text(path: str, content: bytes) -> str:
  try:
    return content.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
    ) from error


def _fingerprint(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()[:16]
