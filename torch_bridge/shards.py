"""The queue of shards that workers pull from: a folder, and renames that are atomic.

Part of the contract (standard library only). Folders under the queue's root:

    pending/     shards that nobody has, one JSON Lines file each
    taken/NAME/  shards that the worker NAME has
    done/        shards that were gone through
    tries/       one `Failure` a request that was begun and has not ended well
    failures/    one `Failure` a request that is set aside
    beats/       one heartbeat a worker
    logs/        one log a worker
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
  """One kind of work of one run, shared by the supervisor and its workers."""

  root: pathlib.Path

  def refill(self, rows: Sequence[Any], size: int) -> None:
    """Throws away what a former run left queued, and queues `rows`.

    Failures stay: a request that was set aside is not asked again.
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
    """Moves one pending shard to the worker; None when there is none."""
    mine = self.root / "taken" / worker
    mine.mkdir(parents=True, exist_ok=True)
    for path in sorted((self.root / "pending").glob("[0-9]*.jsonl")):
      # Another worker may be quicker.
      with contextlib.suppress(FileNotFoundError):
        return path.rename(mine / path.name)
    return None

  def finish(self, shard: pathlib.Path) -> None:
    shard.rename(self.root / "done" / shard.name)

  def give_back(self, worker: str) -> int:
    """Makes a dead worker's shards pending again; returns how many."""
    shards = list((self.root / "taken" / worker).glob("*.jsonl"))
    for path in shards:
      path.rename(self.root / "pending" / path.name)
    return len(shards)

  def has_pending(self) -> bool:
    return any((self.root / "pending").glob("[0-9]*.jsonl"))

  def taken(self) -> set[str]:
    """Names of the shards that workers have, or have gone through."""
    begun = self.root.glob("taken/*/*.jsonl"), self.root.glob("done/*.jsonl")
    return {path.name for paths in begun for path in paths}

  def begin(self, request_id: str, stage: str) -> contract.Failure:
    """Counts one more try, before it is made: a try that kills the worker counts."""
    tried = self.tried(request_id)
    tries = tried.tries + 1 if tried else 1
    reason = tried.reason if tried else "the worker died"
    failure = contract.Failure(request_id, stage, reason, tries)
    self._note(self.root / "tries" / f"{request_id}.json", failure)
    return failure

  def tried(self, request_id: str) -> contract.Failure | None:
    return contract.read_row(
      self.root / "tries" / f"{request_id}.json", contract.Failure
    )

  def retry(self, failure: contract.Failure) -> None:
    """Keeps the reason of a try that failed."""
    self._note(self.root / "tries" / f"{failure.id}.json", failure)

  def succeed(self, request_id: str) -> None:
    (self.root / "tries" / f"{request_id}.json").unlink(missing_ok=True)

  def set_aside(self, failure: contract.Failure) -> None:
    contract.publish_row(self.root / "failures" / f"{failure.id}.json", failure)
    self.succeed(failure.id)

  def failure(self, request_id: str) -> contract.Failure | None:
    return contract.read_row(
      self.root / "failures" / f"{request_id}.json", contract.Failure
    )

  def forgive(self, request_id: str) -> None:
    """Lets a request that was set aside be asked again."""
    (self.root / "failures" / f"{request_id}.json").unlink(missing_ok=True)

  def _note(self, path: pathlib.Path, failure: contract.Failure) -> None:
    # Whole after a killed process; a power cut may lose it, which costs one try.
    aside = path.with_name(contract.ASIDE + path.name)
    aside.write_text(contract.dump(failure), encoding="utf-8")
    aside.replace(path)


class Heartbeat:
  """A file that changes while its worker is alive and getting on."""

  def __init__(self, queue: Queue, worker: str, every_s: float = 1.0):
    self._path = queue.root / "beats" / f"{worker}.json"
    self._every_s = every_s
    self._last = 0.0
    self._lock = threading.Lock()
    self._state: dict[str, Any] = {"worker": worker, "pid": os.getpid(), "beats": 0}

  def __call__(self, state: str = "") -> None:
    """Beats; at most once in `every_s` seconds unless the state is another one."""
    with self._lock:  # a scorer may ask its questions in threads
      now = time.monotonic()
      new_state = bool(state) and state != self._state.get("state")
      if not new_state and now - self._last < self._every_s:
        return
      self._last = now
      self._state["beats"] += 1
      if state:
        self._state["state"] = state
      aside = self._path.with_name(contract.ASIDE + self._path.name)
      aside.write_text(json.dumps(self._state), encoding="utf-8")
      aside.replace(self._path)


def read_beat(queue: Queue, worker: str) -> str:
  """What the worker's last heartbeat says; it differs from the one before."""
  try:
    return (queue.root / "beats" / f"{worker}.json").read_text(encoding="utf-8")
  except FileNotFoundError:
    return ""
