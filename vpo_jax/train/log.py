"""Metrics of a run: JSON Lines for programs, TensorBoard files for people."""

import json
from collections.abc import Mapping
from typing import Any

import tensorboardX
from etils import epath

from vpo_jax import files
from vpo_jax.runtime import processes


class Log:
  """The metrics rows of a run, one a step, without gaps or doubles after a resume.

  All processes know them; the first one writes them.
  """

  def __init__(self, folder: epath.PathLike, step: int):
    """Opens the log at `step`, the last step that counts; later rows are dropped."""
    self._path = epath.Path(folder) / "metrics.jsonl"
    self.rows: list[dict[str, Any]] = []
    if self._path.exists():
      rows = [json.loads(line) for line in self._path.read_text().splitlines()]
      self.rows = [row for row in rows if row["step"] <= step]
    self._board = None
    if processes.first():
      board = str(epath.Path(folder) / "tensorboard")
      self._board = tensorboardX.SummaryWriter(board, purge_step=step + 1)

  def add(self, step: int, values: Mapping[str, float]) -> None:
    self.rows.append({"step": step, **values})
    if self._board:
      for name, value in values.items():
        self._board.add_scalar(name, value, step)

  def publish(self) -> None:
    """Writes all rows; called before each checkpoint, so none is ever ahead of them."""
    if self._board:
      with files.publish(self._path) as file:
        file.writelines(json.dumps(row) + "\n" for row in self.rows)
      self._board.flush()

  def close(self) -> None:
    self.publish()
    if self._board:
      self._board.close()

  def last(self, name: str) -> float:
    """The newest value of a metric."""
    return next(row[name] for row in reversed(self.rows) if name in row)

  def first(self, name: str) -> float:
    """The oldest value of a metric."""
    return next(row[name] for row in self.rows if name in row)

  def at(self, step: int, name: str) -> float | None:
    """A metric's value at a step, if it was measured there."""
    found = (row[name] for row in self.rows if row["step"] == step and name in row)
    return next(found, None)
