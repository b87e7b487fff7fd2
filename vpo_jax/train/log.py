"""Metrics of a run: JSON Lines for programs, TensorBoard files for people."""

import json
import os
import time
import weakref
from collections.abc import Mapping
from typing import Any

from etils import epath, epy

from vpo_jax import buckets, files, json_input
from vpo_jax.runtime import processes

with epy.lazy_imports():  # slow to import, and not always used
  from tensorboardX import event_file_writer, summary
  from tensorboardX.proto import event_pb2

_events: Any = event_pb2  # made at import time, unknown to type checkers


class Log:
  """The metrics of a run, one row per step, without gaps or duplicates after a resume.

  Every process holds all rows; process 0 writes them. A row reaches a local disk at
  once. In a bucket nothing can be appended, so there both files are replaced at
  checkpoints.
  """

  def __init__(self, folder: epath.PathLike, step: int):
    """Opens the log of a run.

    Args:
      folder: the stage's folder.
      step: the checkpoint to resume from; rows of later steps are dropped.
    """
    self._path = epath.Path(folder) / "metrics.jsonl"
    self._local = not files.is_bucket(folder)
    self.rows: list[dict[str, Any]] = []
    if self._path.exists():
      # A killed process may leave half a line, which is later than any checkpoint.
      lines = json_input.lines(self._path)
      rows = [json.loads(line) for _, line in lines if line.endswith("\n")]
      self.rows = [row for row in rows if row["step"] <= step]
    self._board = None
    if processes.first():
      self._replace()
      self._board = _Board(epath.Path(folder) / "tensorboard", step)

  def add(self, step: int, values: Mapping[str, float]) -> None:
    self.rows.append({"step": step, **values})
    if not self._board:
      return
    self._board.add(step, values)
    if self._local:
      with self._path.open("a") as file:
        file.write(json.dumps(self.rows[-1]) + "\n")
      self._board.flush()

  def publish(self) -> None:
    """Makes all rows durable; call it before each checkpoint, so that none is ahead."""
    if not self._board:
      return
    if self._local:
      with self._path.open("a") as file:
        os.fsync(file.fileno())
    else:
      self._replace()
    self._board.publish()

  def close(self) -> None:
    self.publish()
    if self._board:
      self._board.close()

  def last(self, name: str) -> float | None:
    """The newest value of a metric; None if it was never measured."""
    return next((row[name] for row in reversed(self.rows) if name in row), None)

  def first(self, name: str) -> float | None:
    """The oldest value of a metric; None if it was never measured."""
    return next((row[name] for row in self.rows if name in row), None)

  def at(self, step: int, name: str) -> float | None:
    """A metric's value at a step, if it was measured there."""
    found = (row[name] for row in self.rows if row["step"] == step and name in row)
    return next(found, None)

  def _replace(self) -> None:
    with files.publish(self._path) as file:
      file.writelines(json.dumps(row) + "\n" for row in self.rows)


class _Board:
  """A TensorBoard file.

  tensorboardX's SummaryWriter queues events for a thread, so a killed process loses
  some. Here an event is in the file when `flush` returns.
  """

  def __init__(self, folder: epath.Path, step: int):
    """Opens a file whose first event hides what earlier files have after `step`."""
    self._folder = folder
    buckets.forget(folder)  # what counts of earlier files is in the bucket
    local = buckets.scratch(folder)
    local.mkdir(parents=True, exist_ok=True)
    # Names have the time in seconds; a resume within the same one gets its own file.
    self._writer = event_file_writer.EventsWriter(
      str(local / "events"), f".{os.getpid()}.{step + 1}"
    )
    self.close = weakref.finalize(self, self._writer.close)  # also when a run fails
    start = _events.SessionLog(status=_events.SessionLog.START)
    self._write(step + 1, session_log=start)

  def add(self, step: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
      self._write(step, summary=summary.scalar(name, value))

  def flush(self) -> None:
    self._writer.flush()

  def publish(self) -> None:
    """Makes all events durable, in a bucket too."""
    self._writer.flush()
    buckets.store_all(self._folder)

  def _write(self, step: int, **content: Any) -> None:
    event = _events.Event(wall_time=time.time(), step=step, **content)
    self._writer.write_event(event)
