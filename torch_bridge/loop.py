"""A worker's way through its shards: one request's failure stops no other."""

from __future__ import annotations

import errno
import pathlib
import traceback
from collections.abc import Iterator
from typing import Any

from torch_bridge import contract, shards
from torch_bridge.renderers import base


class Loop:
  """Works shards off with one task (`rendering.Rendering` or `scoring.Scoring`)."""

  def __init__(
    self, queue: shards.Queue, task: Any, beat: shards.Heartbeat, batch: int
  ):
    self._queue = queue
    self._task = task
    self._beat = beat
    self._batch = batch

  def run(self, shard: pathlib.Path) -> bool:
    """Works one shard off; False when a request asks for a fresh process."""
    rows = []
    for row in contract.read_rows(shard, self._task.row_type):
      if isinstance(row, contract.Failure):
        self._queue.set_aside(row)
      else:
        rows.append(row)
    # A list would run the batches that follow a refused one.
    return all(self._run_batch(batch) for batch in self._batches(rows))

  def _batches(self, rows: list[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for row in rows:
      self._beat()
      if self._queue.failure(row.id) or self._task.is_done(row):
        continue
      if self._queue.tried(row.id):
        # It failed before or killed a worker: alone, so that it harms no other.
        yield [row]
        continue
      if batch and not self._task.can_share(batch[0], row):
        yield batch
        batch = []
      batch.append(row)
      if len(batch) >= self._batch:
        yield batch
        batch = []
    if batch:
      yield batch

  def _run_batch(self, batch: list[Any]) -> bool:
    tries = 0
    for row in batch:
      begun = self._queue.begin(row.id, self._task.stage)
      tries = begun.tries
      if tries > contract.TRIES:
        self._queue.set_aside(self._counted(begun, contract.TRIES))
        return True
    too_large = fault = ""
    failures: dict[str, contract.Failure] = {}
    try:
      failures = {failure.id: failure for failure in self._task.work(batch, self._beat)}
    except base.ModelError:
      raise  # no request's fault, and no other would fare better
    except base.OutOfMemory as error:
      too_large = str(error) or "no reason given"
    except Exception as error:
      if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise  # no request's fault
      traceback.print_exc()
      fault = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    # Here the error is gone, and with it the frames that hold the batch's tensors.
    if too_large:
      return self._smaller(batch, too_large)
    if fault:
      return self._again(batch, fault, tries)
    for row in batch:
      if row.id in failures:
        self._queue.set_aside(failures[row.id])
      else:
        self._queue.succeed(row.id)
    return True

  def _smaller(self, batch: list[Any], reason: str) -> bool:
    """Halves the batch, for good; one that does not fit alone is set aside."""
    if len(batch) == 1:
      reason = f"out of memory, alone in its batch: {reason}"
      self._queue.set_aside(contract.Failure(batch[0].id, self._task.stage, reason, 1))
      return True
    for row in batch:
      self._queue.succeed(row.id)  # the batch was at fault, not the request
    half = (len(batch) + 1) // 2
    self._batch = min(self._batch, half)
    print(f"out of memory: batches of {self._batch} from now on", flush=True)
    return self._run_batch(batch[:half]) and self._run_batch(batch[half:])

  def _again(self, batch: list[Any], reason: str, tries: int) -> bool:
    """Another try, each request alone, the last one in a fresh process.

    After an error on a GPU everything in that process may fail.
    """
    if len(batch) > 1:
      return all(self._run_batch([row]) for row in batch)
    failure = contract.Failure(batch[0].id, self._task.stage, reason, tries)
    if tries >= contract.TRIES:
      self._queue.set_aside(failure)
      return True
    self._queue.retry(failure)
    if tries == contract.TRIES - 1:
      return False
    return self._run_batch(batch)

  def _counted(self, failure: contract.Failure, tries: int) -> contract.Failure:
    return contract.Failure(failure.id, failure.stage, failure.reason, tries)
