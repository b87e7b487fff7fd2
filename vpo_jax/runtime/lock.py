"""One run at a time: a lock file with host, process and heartbeat.

Two runs of one workdir would each remove what the other is writing. The file is removed
at the end; that of a killed run counts as stale, and the next run takes it over.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psutil
from etils import epath

from vpo_jax import errors, files, json_input
from vpo_jax.runtime import console

BEAT = 10.0  # seconds between heartbeats
SILENCE = 35.0  # seconds without one, after which a run on another machine is dead

# The number of heartbeats is counted, because clocks of machines differ.
_KEYS = ("host", "namespace", "pid", "started", "token", "beat")


@contextlib.contextmanager
def held(path: epath.Path) -> Iterator[None]:
  """A context in which this process holds the lock.

  Args:
    path: of the lock file, on a local disk or in object storage.

  Raises:
    UserError: another run holds it; names its process and machine.
  """
  process = psutil.Process()
  own = {
    "host": socket.gethostname(),
    "namespace": _namespace(),
    "pid": process.pid,
    "started": process.create_time(),
    "token": uuid.uuid4().hex,
    "beat": 0,
  }
  _acquire(path, own)
  done = threading.Event()
  beating = threading.Thread(target=_beat, args=(path, own, done), daemon=True)
  beating.start()
  try:
    yield
  finally:
    done.set()
    beating.join()
    if _holder(path) == own:
      path.unlink(missing_ok=True)


def _acquire(path: epath.Path, own: dict[str, Any]) -> None:
  while not _create(path, own):
    holder = _holder(path)
    if holder is None:
      continue  # it has just been removed
    if _is_alive(path, holder):
      raise errors.UserError(
        f"{path.parent}: another run is at work here (process {holder['pid']} on"
        f" {holder['host']}); wait for its end, or stop it and run this again"
      )
    console.say(
      f"{path.parent}: taking over from a run that has ended (process"
      f" {holder['pid']} on {holder['host']})"
    )
    _remove(path, holder)


def _create(path: epath.Path, own: dict[str, Any]) -> bool:
  """Writes the lock file; False if there is one, or another process was faster."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if not files.is_bucket(path):
    with contextlib.suppress(FileExistsError), open(path, "x") as file:
      json.dump(own, file)
      return True
    return False
  # fsspec cannot create an object only if there is none: the last writer wins.
  if path.exists():
    return False
  files.write_json(path, own)
  time.sleep(1)
  return _holder(path) == own


def _holder(path: epath.Path) -> dict[str, Any] | None:
  """The content of the lock file; None if there is none."""
  for _ in range(10):
    with contextlib.suppress(errors.UserError, OSError):
      found = json_input.value(path)
      if isinstance(found, dict) and found.keys() >= set(_KEYS):
        return found
    if not path.exists():
      return None
    time.sleep(0.1)  # it is being written
  return dict.fromkeys(_KEYS, 0) | {"host": "an unknown machine"}


def _namespace() -> int:
  """Identifies whose process ids these are: containers have their own."""
  with contextlib.suppress(OSError):  # Linux only
    return os.stat("/proc/self/ns/pid").st_ino
  return 0


def _is_alive(path: epath.Path, holder: dict[str, Any]) -> bool:
  own = socket.gethostname(), _namespace()
  if (holder["host"], holder["namespace"]) == own:
    with contextlib.suppress(psutil.Error):
      started = psutil.Process(holder["pid"]).create_time()
      return abs(started - holder["started"]) < 1
    return False
  waited = time.monotonic() + SILENCE
  while time.monotonic() < waited:
    time.sleep(min(1.0, SILENCE / 10))
    found = _holder(path)
    if found is None:
      return False
    if found != holder:
      return True
  return False


def _remove(path: epath.Path, holder: dict[str, Any]) -> None:
  """Removes a stale lock, but not one that another run has made in the meantime."""
  aside = path.parent / f"{path.name}-{uuid.uuid4().hex}"
  with contextlib.suppress(FileNotFoundError):
    path.rename(aside)
    if _holder(aside) != holder:
      aside.rename(path)
    else:
      aside.unlink()


def _beat(path: epath.Path, own: dict[str, Any], done: threading.Event) -> None:
  while not done.wait(BEAT):
    try:
      found = _holder(path)
      if found != own and (found is None or found["token"]):
        os.write(2, f"error: {path}: another run has taken over\n".encode())
        os._exit(1)
      own["beat"] += 1
      files.write_json(path, own)
    except Exception:  # HTTP clients raise their own
      continue  # a full disk or a storage that does not answer: the work will say so
