"""The queue of shards: a folder from which workers take files by atomic renames.

Part of the contract (standard library only). Folders under the queue's root:

    pending/     unassigned shards, one JSON Lines file each
    taken/NAME/  shards assigned to the worker NAME
    done/        processed shards
    tries/       one `Failure` per request that was started and has not succeeded
    failures/    one `Failure` per request that is set aside
    beats/       one heartbeat file per worker
    logs/        one log per worker
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import threading
import time
from collections.abc import Sequence
from typing import Any

from torch_bridge import contract


@dataclasses.dataclass(frozen=True)
class Queue:
  """One task of one run, shared by the supervisor and its workers."""

  root: pathlib.Path

  def refill(self, rows: Sequence[Any], size: int) -> None:
    """Removes the shards of an earlier run and queues `rows`.

    Failures are kept: a request that was set aside is not tried again.

    Args:
      size: rows per shard.
    """
    for name in ("pending", "taken", "done", "tries", "beats"):
      shutil.rmtree(self.root / name, ignore_errors=True)
    for name in ("pending", "taken", "done", "tries", "failures", "beats", "logs"):
      (self.root / name).mkdir(parents=True, exist_ok=True)
    for start in range(0, len(rows), size):
      contract.write_rows(
        self.root / "pending" / f"{start // size:06d}.jsonl", rows[start : start + size]
      )

  def take(self, worker: str) -> pathlib.Path | None:
    """Assigns a pending shard to the worker; None if no shard is pending."""
    folder = self.root / "taken" / worker
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((self.root / "pending").glob("[0-9]*.jsonl")):
      # Another worker may take it first.
      with contextlib.suppress(FileNotFoundError):
        return path.rename(folder / path.name)
    return None

  def finish(self, shard: pathlib.Path) -> None:
    shard.rename(self.root / "done" / shard.name)

  def release(self, worker: str) -> int:
    """Makes a dead worker's shards pending again; returns how many."""
    paths = list((self.root / "taken" / worker).glob("*.jsonl"))
    for path in paths:
      path.rename(self.root / "pending" / path.name)
    return len(paths)

  def has_pending(self) -> bool:
    return any((self.root / "pending").glob("[0-9]*.jsonl"))

  def taken(self) -> set[str]:
    """Names of the shards that are assigned or processed."""
    begun = self.root.glob("taken/*/*.jsonl"), self.root.glob("done/*.jsonl")
    return {path.name for paths in begun for path in paths}

  def begin(self, request_id: str, stage: str) -> contract.Failure:
    """Counts a try before it starts, so that a try that kills the worker is counted."""
    tried = self.tried(request_id)
    tries = tried.tries + 1 if tried else 1
    reason = tried.reason if tried else "the worker crashed"
    failure = contract.Failure(request_id, stage, reason, tries)
    self.record_try(failure)
    return failure

  def tried(self, request_id: str) -> contract.Failure | None:
    """The tries of a request that has not succeeded; None if there were none."""
    return contract.read_row(
      self.root / "tries" / f"{request_id}.json", contract.Failure
    )

  def record_try(self, failure: contract.Failure) -> None:
    """Stores the number of tries and the reason of the last failure."""
    path = self.root / "tries" / f"{failure.id}.json"
    # Not synced: a power failure may lose the row, which costs one more try.
    temporary = path.with_name(contract.TEMPORARY + path.name)
    temporary.write_text(contract.dump(failure), encoding="utf-8")
    temporary.replace(path)

  def succeed(self, request_id: str) -> None:
    (self.root / "tries" / f"{request_id}.json").unlink(missing_ok=True)

  def set_aside(self, failure: contract.Failure) -> None:
    contract.publish_row(self.root / "failures" / f"{failure.id}.json", failure)
    self.succeed(failure.id)

  def failure(self, request_id: str) -> contract.Failure | None:
    """The failure of a request that is set aside; None if it is not."""
    return contract.read_row(
      self.root / "failures" / f"{request_id}.json", contract.Failure
    )

  def clear_failure(self, request_id: str) -> None:
    """Lets a request that was set aside be tried again."""
    (self.root / "failures" / f"{request_id}.json").unlink(missing_ok=True)


class Heartbeat:
  """A file that changes while its worker makes progress; call it to change the file."""

  def __init__(self, queue: Queue, worker: str, every_s: float = 1.0):
    self._path = queue.root / "beats" / f"{worker}.json"
    self._every_s = every_s
    self._last = 0.0
    self._lock = threading.Lock()
    self._state: dict[str, Any] = {"worker": worker, "pid": os.getpid(), "beats": 0}

  def __call__(self, state: str = "") -> None:
    """Writes the file, at most once per `every_s` seconds unless `state` is new."""
    with self._lock:  # a scorer may call it from several threads
      now = time.monotonic()
      new_state = bool(state) and state != self._state.get("state")
      if not new_state and now - self._last < self._every_s:
        return
      self._last = now
      self._state["beats"] += 1
      if state:
        self._state["state"] = state
      temporary = self._path.with_name(contract.TEMPORARY + self._path.name)
      temporary.write_text(json.dumps(self._state), encoding="utf-8")
      temporary.replace(self._path)


def read_heartbeat(queue: Queue, worker: str) -> str:
  """The content of a heartbeat file, which no two heartbeats share; "" if none."""
  try:
    return (queue.root / "beats" / f"{worker}.json").read_text(encoding="utf-8")
  except FileNotFoundError:
    return ""
