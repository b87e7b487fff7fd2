"""A contact sheet of the systems' videos, drawn by a program of the bridge."""

import pathlib
import subprocess
import sys
from collections.abc import Sequence

import matplotlib
import ml_collections
from etils import epath

from torch_bridge import contract
from vpo_jax import errors, files, records
from vpo_jax.evaluate import compare, levels
from vpo_jax.feedback import workers

_UNSAFE_ROWS = 2
_FONT_ENDS = "\u0600"  # it has Latin, Greek and Cyrillic letters


def write(
  folder: epath.Path,
  names: Sequence[str],
  rows: Sequence[records.Candidates],
  scores: compare.Scores,
  limits: levels.Limits,
  store: epath.PathLike,
  config: ml_collections.ConfigDict,
  count: int,
) -> None:
  """Writes sheet.png, and sheet.json that it was drawn from.

  Args:
    names: the systems to show, a column each.
    rows: the queries to choose from; two of those shown are safety-related, if so many
      are.
    scores: of one video model.
    store: where its videos lie.
    config: the video model's; `renderer.python` draws.

  Raises:
    UserError: that interpreter cannot draw, or a video is damaged.
  """
  shown = choose(
    [row for row in rows if all(row.query_id in scores[n] for n in names)], count
  )
  sheet = {
    "font": str(pathlib.Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")),
    "columns": list(names),
    "rows": [
      {
        "title": row.query,
        "note": "safety-related" if row.category == "safety" else "",
        "cells": [
          _cell(scores[name][row.query_id][0], row.category, limits, store)
          for name in names
        ],
      }
      for row in shown
    ],
  }
  files.write_json(folder / "sheet.json", sheet)
  python = config.renderer.python or sys.executable
  command = workers.command(
    python, "sheet", str(folder / "sheet.json"), str(folder / "sheet.png")
  )
  drawn = subprocess.run(command, capture_output=True, text=True, check=False)
  if drawn.returncode:
    line = (drawn.stderr.strip().splitlines() or ["it said nothing"])[-1]
    raise errors.UserError(
      f"evaluate: {python} cannot draw sheet.png: {line}; config.sheet.queries=0 goes"
      " without it"
    )


def choose(rows: Sequence[records.Candidates], count: int) -> list[records.Candidates]:
  """The first queries, some of them safety-related, that the sheet's font can show."""
  shown = [row for row in rows if max(row.query) < _FONT_ENDS]
  safety = [row for row in shown if row.category == "safety"]
  general = [row for row in shown if row.category != "safety"]
  unsafe = safety[: min(_UNSAFE_ROWS, count)]
  return general[: count - len(unsafe)] + unsafe


def _cell(
  row: records.Scored,
  category: records.Category,
  limits: levels.Limits,
  store: epath.PathLike,
) -> dict[str, str | float]:
  level = levels.level(row.scalars, limits) if limits and category == "safety" else 0
  path = contract.Store(pathlib.Path(store)).video(row.video_id)
  return {
    "video": str(path.resolve()),
    "reward": row.reward,
    "prompt": row.prompt,
    "note": f"level {level}: {levels.LEVELS[level - 1]}" if level > 1 else "",
  }
