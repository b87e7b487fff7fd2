"""VBench's prompts by dimension.

VBench's file is a list of objects with `prompt_en`, `dimension` (the names of the
dimensions that the prompt is for) and `auxiliary_info`.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import pydantic

from vpo_jax import errors, json_input

# The number of prompts of each dimension (VBench 0.1.5, VBench_full_info.json).
COUNTS = {
  "subject_consistency": 72,
  "background_consistency": 86,
  "temporal_flickering": 75,
  "motion_smoothness": 72,
  "dynamic_degree": 72,
  "aesthetic_quality": 93,
  "imaging_quality": 93,
  "object_class": 79,
  "multiple_objects": 82,
  "human_action": 100,
  "color": 85,
  "spatial_relationship": 84,
  "scene": 86,
  "appearance_style": 90,
  "temporal_style": 100,
  "overall_consistency": 93,
}
# The dimensions of the paper's tables 1, 3 and 5.
PAPER = ("human_action", "scene", "multiple_objects", "appearance_style")


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A prompt, which is rendered once for all its dimensions.

  Attributes:
    dimensions: those of the chosen dimensions that it is for.
    auxiliary_info: what VBench compares with, by dimension.
  """

  text: str
  dimensions: tuple[str, ...]
  auxiliary_info: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Row:
  """A row of VBench's file."""

  prompt_en: str
  dimension: tuple[str, ...]
  auxiliary_info: dict[str, Any] = dataclasses.field(default_factory=dict)


def info_file(checkout: str | os.PathLike) -> pathlib.Path:
  """VBench's file of prompts in a checkout.

  Raises:
    UserError: the checkout has no such file.
  """
  path = pathlib.Path(checkout) / "vbench" / "VBench_full_info.json"
  if not path.is_file():
    raise errors.UserError(
      f"{checkout}: no VBench checkout: it has no vbench/VBench_full_info.json"
    )
  return path


def check(dimensions: Iterable[str]) -> None:
  """Checks the names of dimensions.

  Raises:
    UserError: there is none, one is unknown, or one occurs twice.
  """
  names = list(dimensions)
  for number, name in enumerate(names):
    if name not in COUNTS:
      raise errors.UserError(
        f"vbench.dimensions: {name!r} is not one of {', '.join(COUNTS)}"
      )
    if name in names[:number]:
      raise errors.UserError(f"vbench.dimensions: {name} is named twice")
  if not names:
    raise errors.UserError(
      f"vbench.dimensions is empty: name some of {', '.join(COUNTS)}"
    )


def read(
  info: str | os.PathLike, dimensions: Sequence[str] = PAPER, limit: int = 0
) -> list[Prompt]:
  """The prompts of some dimensions, in the order of VBench's file.

  Args:
    info: VBench_full_info.json.
    limit: the number of prompts of each dimension, from its first; 0 is all.

  Raises:
    UserError: a dimension is unknown, or the file is not VBench's: it cannot be read,
      or a dimension has another number of prompts.
  """
  check(dimensions)
  rows = _rows(info)
  chosen = {
    name: [row.prompt_en for row in _of(rows, name, info)][: limit or None]
    for name in dimensions
  }
  found: dict[str, Prompt] = {}
  for row in rows:
    text = row.prompt_en
    names = [name for name in row.dimension if text in chosen.get(name, ())]
    if not names:
      continue
    before = found.get(text, Prompt(text, (), {}))
    about = {k: v for k, v in row.auxiliary_info.items() if k in names}
    found[text] = Prompt(
      text, (*before.dimensions, *names), before.auxiliary_info | about
    )
  return list(found.values())


def _rows(info: str | os.PathLike) -> list[_Row]:
  try:
    return pydantic.TypeAdapter(list[_Row]).validate_python(json_input.value(info))
  except pydantic.ValidationError as error:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    raise errors.UserError(
      f"{info}: not VBench's list of prompts: {where}: {first['msg']}"
    ) from error


def _of(rows: Iterable[_Row], dimension: str, info: str | os.PathLike) -> list[_Row]:
  found = [row for row in rows if dimension in row.dimension]
  if len(found) != COUNTS[dimension]:
    raise errors.UserError(
      f"{info}: {len(found)} prompts of {dimension}, but VBench has"
      f" {COUNTS[dimension]}; use VBench's own VBench_full_info.json"
    )
  return found
