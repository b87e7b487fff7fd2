"""Metrics of training: JSON Lines for programs, TensorBoard files for people."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping

import tensorboardX

from torch_bridge import contract

Add = Callable[[int, Mapping[str, float]], None]


@contextlib.contextmanager
def open_log(
  folder: pathlib.Path, step: int, *, again: bool, writes: bool
) -> Iterator[Add]:
  """A context with a function that adds a row: its step and its values.

  Args:
    folder: of metrics.jsonl and tensorboard/.
    step: of the checkpoint that the run continues; rows of later steps are dropped.
    again: the step's held-out pairs will be measured again; drops their row.
    writes: False in all processes but the first, whose rows are ignored.
  """
  if not writes:
    yield lambda step, values: None
    return
  path = folder / "metrics.jsonl"
  rows = []
  if path.exists():
    # A killed process may leave half a line.
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
  with contract.publish(path) as file:
    for row in rows:
      measured = row["step"] == step and "heldout_loss" in row
      if row["step"] <= step and not (again and measured):
        file.write((json.dumps(row) + "\n").encode())
  with (
    path.open("a", encoding="utf-8") as file,
    tensorboardX.SummaryWriter(
      str(folder / "tensorboard"), purge_step=step + 1
    ) as board,
  ):

    def add(step: int, values: Mapping[str, float]) -> None:
      file.write(json.dumps({"step": step, **values}) + "\n")
      file.flush()
      for name, value in values.items():
        board.add_scalar(name, value, step)

    yield add
