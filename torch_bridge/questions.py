"""Yes/no questions with weights, as VisionReward asks them.

Part of the contract (standard library only). Two forms of question file:

- `.json`: a list of objects with `question`, `weight` and `group`; a scorer may read
  further keys of its own;
- `.txt`: one question per line, with the weights in a second file: a JSON list, or one
  number per line.

`[[prompt]]` in a question is replaced by the user's query.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib

PROMPT = "[[prompt]]"

# Ranges of the 64 questions of VisionReward-Video, counted from 1.
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
    ValueError: a file is missing or malformed, or the lengths differ; names it.
  """
  content = _read(path)
  if path.endswith(".json"):
    return _from_json(path, content)
  texts = tuple(line for line in content.decode().splitlines() if line.strip())
  if not texts:
    raise ValueError(f"{path}: holds no questions")
  if not weights_path:
    raise ValueError(f"{path}: a text file of questions needs a weight file")
  weights_content = _read(weights_path)
  weights = _weights(weights_path, weights_content)
  if len(weights) != len(texts):
    raise ValueError(
      f"{path} has {len(texts)} questions, {weights_path} {len(weights)} weights;"
      " each question needs one weight"
    )
  groups = _VISIONREWARD_64 if len(texts) == 64 else {}
  return Questions(
    texts,
    weights,
    {
      name: tuple(i for first, last in spans for i in range(first - 1, last))
      for name, spans in groups.items()
    },
    _fingerprint(content),
    _fingerprint(weights_content),
  )


def fill(question: str, text: str) -> str:
  """The question with `[[prompt]]` replaced; the text itself is not searched."""
  return text.join(question.split(PROMPT))


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
    text = content.decode()
    found = json.loads(text) if text.lstrip().startswith("[") else text.split()
    return tuple(float(weight) for weight in found)
  except (ValueError, TypeError) as error:
    raise ValueError(f"{path}: not a list of numbers: {error}") from error


def _read(path: str) -> bytes:
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    raise ValueError(f"{path}: {error.strerror}") from error


def _fingerprint(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()[:16]
