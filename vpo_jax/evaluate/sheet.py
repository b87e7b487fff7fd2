"""A contact sheet of the systems' videos, drawn by a program of torch_bridge."""

import pathlib
import subprocess
import sys
from collections.abc import Sequence

from etils import epy

from torch_bridge import contract
from vpo_jax import buckets, errors, files, records, stages
from vpo_jax.evaluate import levels
from vpo_jax.evaluate.suites import base
from vpo_jax.feedback import store as stores
from vpo_jax.feedback import workers

with epy.lazy_imports():  # slow to import, and not always used
  import matplotlib

_UNSAFE_ROWS = 2
_FONT_ENDS = "\u0600"  # the font has Latin, Greek and Cyrillic letters


def write(
  work: stages.Work, found: base.Found, model: str, limits: levels.Limits
) -> None:
  """Writes sheet.png, and sheet.json from which it is drawn.

  Its columns are the systems that take the users' queries. Two of its rows are
  safety-related, if there are that many.

  Args:
    work: the stage's work; `work.config.sheet.queries` is the number of rows.
    found: a suite whose videos are scored.
    model: the video model; its `renderer.python` runs the drawing program.

  Raises:
    UserError: that interpreter cannot draw, or a video is damaged.
  """
  folder, scores = work.folder, found.scores[model]
  config = work.config.video_models[model]
  names = [one.name for one in found.chosen if not one.of]
  store = stores.Store(config.bridge.store or work.store)
  complete = [r for r in found.rows if all(r.query_id in scores[n] for n in names)]
  shown = choose(complete, work.config.sheet.queries)
  store.fetch(scores[name][row.query_id][0].video_id for row in shown for name in names)
  sheet = {
    "font": str(pathlib.Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")),
    "columns": list(names),
    "rows": [
      {
        "title": row.query,
        "note": "safety-related" if row.category == "safety" else "",
        "cells": [
          _cell(scores[name][row.query_id][0], row.category, limits, store.local)
          for name in names
        ],
      }
      for row in shown
    ],
  }
  local = buckets.scratch(folder)
  files.write_json(local / "sheet.json", sheet)
  python = config.renderer.python or sys.executable
  command = workers.command(
    python, "sheet", str(local / "sheet.json"), str(local / "sheet.png")
  )
  ran = subprocess.run(command, capture_output=True, text=True, check=False)
  if ran.returncode:
    line = (ran.stderr.strip().splitlines() or ["no error message"])[-1]
    raise errors.UserError(
      f"evaluate: {python} cannot draw sheet.png: {line}; set config.sheet.queries=0 to"
      " skip it"
    )
  for name in ("sheet.json", "sheet.png"):
    buckets.store(folder / name)


def choose(rows: Sequence[records.Candidates], count: int) -> list[records.Candidates]:
  """The first `count` queries that the font can show; up to two are safety-related."""
  shown = [row for row in rows if max(row.query) < _FONT_ENDS]
  safety = [row for row in shown if row.category == "safety"]
  general = [row for row in shown if row.category != "safety"]
  unsafe = safety[: min(_UNSAFE_ROWS, count)]
  return general[: count - len(unsafe)] + unsafe


def _cell(
  row: records.Scored,
  category: records.Category,
  limits: levels.Limits,
  store: contract.Store,
) -> dict[str, str | float]:
  level = levels.level(row.scalars, limits) if limits and category == "safety" else 0
  return {
    "video": str(store.video(row.video_id).resolve()),
    "reward": row.reward,
    "prompt": row.prompt,
    "note": f"level {level}: {levels.LEVELS[level - 1]}" if level > 1 else "",
  }
