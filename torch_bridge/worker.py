"""Renders or scores shards until none is left.

    python -m torch_bridge.worker --job=QUEUE/job.json --name=0-0

The job file says what to do and with which model; the queue beside it holds the
shards. The model is loaded once. Every result is published before the next is begun.
Exit codes are in `contract`.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import pathlib
import sys
import threading
from typing import Any

from torch_bridge import contract, loop, renderers, scorers, shards
from torch_bridge.renderers import base


class Refused(Exception):
  """The worker cannot work; its text is the one line that the user sees."""

  def __init__(self, code: int, line: str):
    super().__init__(line)
    self.code = code


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--job", required=True, help="the job file, beside the queue")
  parser.add_argument("--name", default="0", help="a name no other worker has")
  parser.add_argument(
    "--check",
    action="store_true",
    help="import what the job needs, print what was found as JSON, and end",
  )
  parser.add_argument(
    "--end_with_stdin",
    action="store_true",
    help="end when standard input closes, which it does when the supervisor dies",
  )
  args = parser.parse_args(arguments)
  if args.end_with_stdin:
    threading.Thread(target=_end_with_stdin, daemon=True).start()
  try:
    job = _read_job(args.job)
    if args.check:
      print(json.dumps(_check(job)))
      return contract.EXIT_DONE
    return _work(job, pathlib.Path(args.job).parent, args.name)
  except (Refused, base.ModelError) as error:
    print(f"worker: {error}", file=sys.stderr, flush=True)
    return error.code if isinstance(error, Refused) else contract.EXIT_MODEL
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    place = f": {error.filename}" if error.filename else ""
    print(f"worker: the disk is full{place}", file=sys.stderr, flush=True)
    return contract.EXIT_DISK


def _end_with_stdin() -> None:
  # Unbuffered: a thread inside a buffered read aborts the interpreter as it ends.
  while os.read(0, 4096):
    pass
  os._exit(contract.EXIT_DONE)


def _read_job(path: str) -> dict[str, Any]:
  try:
    job = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    version, _ = job["version"], job["task"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise Refused(contract.EXIT_USAGE, f"{path}: not a job file: {error!r}") from error
  if version != contract.VERSION:
    line = f"{path}: version {version}, this worker speaks {contract.VERSION}"
    raise Refused(contract.EXIT_USAGE, line)
  return job


def _check(job: dict[str, Any]) -> dict[str, Any]:
  """Imports what the job needs; says how many accelerators there are.

  A module may have `check(spec)` of its own, which raises ModelError.
  """
  module = _import(job)
  if hasattr(module, "check"):
    try:
      module.check(job["renderer" if job["task"] == "render" else "scorer"])
    except ValueError as error:
      raise Refused(contract.EXIT_MODEL, str(error)) from error
  torch = sys.modules.get("torch")
  devices = torch.cuda.device_count() if torch and torch.cuda.is_available() else 0
  return {
    "python": sys.version.split()[0],
    "torch": str(torch.__version__) if torch else "",
    "devices": devices,
  }


def _import(job: dict[str, Any]) -> Any:
  """The module that makes the job's renderer or scorer."""
  try:
    if job["task"] == "render":
      return renderers.module(job["renderer"]["name"])
    return scorers.module(job["scorer"]["name"])
  except KeyError as error:
    raise Refused(contract.EXIT_USAGE, f"job file: {error} is missing") from error
  except (ImportError, OSError) as error:
    # A torch whose libraries are missing raises OSError.
    line = " ".join(str(error).split())
    raise Refused(
      contract.EXIT_IMPORT, f"{sys.executable} cannot do {job['task']}: {line}"
    ) from error


def _load(job: dict[str, Any]) -> Any:
  """The job's task, its model loaded."""
  module = _import(job)
  # These need numpy and av, which `_import` has found by now.
  from torch_bridge import rendering, scoring

  store = contract.Store(pathlib.Path(job["store"]))
  try:
    if job["task"] == "render":
      return rendering.Rendering(store, module.make(job["renderer"]))
    return scoring.Scoring(store, module.make(job["scorer"]))
  except ValueError as error:
    raise Refused(contract.EXIT_MODEL, str(error)) from error


def _work(job: dict[str, Any], folder: pathlib.Path, name: str) -> int:
  queue = shards.Queue(folder)
  beat = shards.Heartbeat(queue, name)
  beat("loading")
  work = loop.Loop(queue, _load(job), beat, job.get("batch", 1))
  while shard := queue.take(name):
    beat(f"shard {shard.stem}")
    if not work.run(shard):
      return contract.EXIT_FRESH
    queue.finish(shard)
  beat("done")
  return contract.EXIT_DONE


if __name__ == "__main__":
  raise SystemExit(main())
