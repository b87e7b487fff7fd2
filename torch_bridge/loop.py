"""A worker's loop over its shards; a failed request does not stop the others."""

from __future__ import annotations

import dataclasses
import errno
import pathlib
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from torch_bridge import contract, shards
from torch_bridge.renderers import base


class Loop:
  """Processes shards with one task (`rendering.Rendering` or `scoring.Scoring`)."""

  def __init__(
    self, queue: shards.Queue, task: Any, heartbeat: shards.Heartbeat, batch: int
  ):
    self._queue = queue
    self._task = task
    self._heartbeat = heartbeat
    # A renderer that yields its clips one by one is given a whole shard.
    self._streams = getattr(task, "streams", False)
    self._batch = sys.maxsize if self._streams else batch

  def run(self, shard: pathlib.Path) -> bool:
    """Processes one shard; False if a request needs a fresh process for its last try.

    Raises:
      ModelError: the model cannot serve any request.
      OSError: the disk is full.
    """
    rows = []
    for row in contract.read_rows(shard, self._task.row_type):
      if isinstance(row, contract.Failure):
        self._queue.set_aside(row)
      else:
        rows.append(row)
    # A generator, so that the first False stops the remaining batches.
    return all(self._run_batch(batch) for batch in self._batches(rows))

  def _batches(self, rows: list[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for row in rows:
      self._heartbeat()
      if self._queue.failure(row.id) or self._task.is_done(row):
        continue
      if self._queue.tried(row.id):
        # It failed or killed a worker before: run it alone, to not affect the others.
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
    # A renderer that streams works on one request after another.
    tries = 0
    for row in batch[:1] if self._streams else batch:
      attempt = self._queue.begin(row.id, self._task.stage)
      tries = attempt.tries
      if tries > contract.TRIES:
        self._queue.set_aside(dataclasses.replace(attempt, tries=contract.TRIES))
        return True
    out_of_memory = reason = ""
    left = {row.id: row for row in batch}
    try:
      for row, failure in self._task.work(batch, self._heartbeat):
        self._settle(row, failure)
        was_first = next(iter(left)) == row.id
        del left[row.id]
        if self._streams and was_first and left:
          self._queue.begin(next(iter(left)), self._task.stage)
    except base.ModelError:
      raise  # every other request would fail in the same way
    except base.OutOfMemory as error:
      out_of_memory = str(error) or "no reason given"
    except Exception as error:
      if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise
      traceback.print_exc()
      reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    # Outside the handlers: the exception's traceback holds the batch's tensors.
    if not left:  # ignore a failure after the last result
      return True
    unsettled = list(left.values())
    if len(batch) > 1 and (self._streams or len(unsettled) < len(batch)):
      return self._continue(unsettled)
    if out_of_memory:
      return self._halve(unsettled, out_of_memory)
    return self._retry(batch, reason, tries)

  def _settle(self, row: Any, failure: contract.Failure | None) -> None:
    if failure:
      self._queue.set_aside(failure)
    else:
      self._queue.succeed(row.id)

  def _continue(self, unsettled: list[Any]) -> bool:
    """Tries the first request alone, since the batch failed there, then the rest."""
    first, *rest = unsettled
    for row in rest:
      self._queue.succeed(row.id)  # they were not the cause
    return self._run_batch([first]) and (not rest or self._run_batch(rest))

  def _halve(self, batch: list[Any], reason: str) -> bool:
    """Halves the batch size permanently; sets aside a request that never fits."""
    if len(batch) == 1:
      reason = f"out of memory with a batch of one: {reason}"
      self._queue.set_aside(contract.Failure(batch[0].id, self._task.stage, reason, 1))
      return True
    for row in batch:
      self._queue.succeed(row.id)  # the batch size was the cause, not the request
    half = (len(batch) + 1) // 2
    self._batch = min(self._batch, half)
    print(f"out of memory: batches of {self._batch} from now on", flush=True)
    return self._run_batch(batch[:half]) and self._run_batch(batch[half:])

  def _retry(self, batch: list[Any], reason: str, tries: int) -> bool:
    """Tries each request again alone, the last time in a fresh process.

    After some GPU errors, everything in the same process fails.
    """
    if len(batch) > 1:
      return all(self._run_batch([row]) for row in batch)
    failure = contract.Failure(batch[0].id, self._task.stage, reason, tries)
    if tries >= contract.TRIES:
      self._queue.set_aside(failure)
      return True
    self._queue.record_try(failure)
    if tries == contract.TRIES - 1:
      return False
    return self._run_batch(batch)
