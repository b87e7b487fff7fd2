"""Renders, scores or encodes the shards of a queue until none is pending.

    python -m torch_bridge.worker --job=QUEUE/job.json --name=0-0

The job file names the task and the model; the queue is the folder of the job file. The
model is loaded once. Each result is published before the next request starts. The exit
codes are in `contract`.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import os
import pathlib
import sys
import threading
from typing import Any

from torch_bridge import contract, loop, renderers, scorers, shards
from torch_bridge.renderers import base


class CannotStart(Exception):
  """The message is the one line that the user sees."""

  def __init__(self, code: int, line: str):
    super().__init__(line)
    self.code = code


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    "--job", required=True, help="the job file, in the queue's folder"
  )
  parser.add_argument("--name", default="0", help="unique among the queue's workers")
  parser.add_argument(
    "--check",
    action="store_true",
    help="check the job's packages and settings, print versions as JSON, and exit",
  )
  parser.add_argument(
    "--identity",
    action="store_true",
    help="print the identity of the job's scorer as JSON, and exit",
  )
  parser.add_argument(
    "--end_with_stdin",
    action="store_true",
    help="exit when standard input closes, as it does when the supervisor dies",
  )
  args = parser.parse_args(arguments)
  if args.end_with_stdin:
    threading.Thread(target=_end_with_stdin, daemon=True).start()
  try:
    job = _read_job(args.job)
    if args.check:
      print(json.dumps(_check(job)))
    elif args.identity:
      print(json.dumps(_identity(job)))
    else:
      return _work(job, pathlib.Path(args.job).parent, args.name)
    return contract.EXIT_DONE
  except (CannotStart, base.ModelError) as error:
    print(f"worker: {error}", file=sys.stderr, flush=True)
    return error.code if isinstance(error, CannotStart) else contract.EXIT_MODEL
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    place = f": {error.filename}" if error.filename else ""
    print(f"worker: the disk is full{place}", file=sys.stderr, flush=True)
    return contract.EXIT_DISK


def _end_with_stdin() -> None:
  # Unbuffered: a thread inside a buffered read would abort the interpreter at exit.
  while os.read(0, 4096):
    pass
  os._exit(contract.EXIT_DONE)


def _read_job(path: str) -> dict[str, Any]:
  try:
    job = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    version, task = job["version"], job["task"]
    _ = job[_spec_key(task)]["name"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise CannotStart(
      contract.EXIT_USAGE, f"{path}: not a job file: {error!r}"
    ) from error
  if version != contract.VERSION:
    line = f"{path}: version {version}; this worker supports {contract.VERSION}"
    raise CannotStart(contract.EXIT_USAGE, line)
  return job


def _spec_key(task: str) -> str:
  return {"render": "renderer", "score": "scorer", "encode": "encoder"}[task]


def _check(job: dict[str, Any]) -> dict[str, Any]:
  """Imports the job's module and calls its `check(spec)`, if it has one.

  Returns: the versions of Python and torch, and the number of accelerators.
  """
  module = _import(job)
  if hasattr(module, "check"):
    try:
      module.check(job[_spec_key(job["task"])])
    except ValueError as error:
      raise CannotStart(contract.EXIT_MODEL, str(error)) from error
  torch = sys.modules.get("torch")
  devices = torch.cuda.device_count() if torch and torch.cuda.is_available() else 0
  return {
    "python": sys.version.split()[0],
    "torch": str(torch.__version__) if torch else "",
    "devices": devices,
  }


def _identity(job: dict[str, Any]) -> dict[str, str]:
  """The result of the scorer module's `identity(spec)`; "" if it has none."""
  module = _import(job)
  if not hasattr(module, "identity"):
    return {"identity": ""}
  try:
    return {"identity": str(module.identity(job["scorer"]))}
  except ValueError as error:
    raise CannotStart(contract.EXIT_MODEL, str(error)) from error


def _import(job: dict[str, Any]) -> Any:
  """The module of the job's renderer, scorer or encoder."""
  name = job[_spec_key(job["task"])]["name"]
  try:
    if job["task"] == "encode":
      return importlib.import_module(name)
    return (renderers if job["task"] == "render" else scorers).module(name)
  except (ImportError, OSError) as error:
    # OSError: a torch whose shared libraries are missing.
    line = " ".join(str(error).split())
    raise CannotStart(
      contract.EXIT_IMPORT, f"{sys.executable} cannot {job['task']} with {name}: {line}"
    ) from error


def _load(job: dict[str, Any]) -> Any:
  """The job's task, with its model loaded."""
  module = _import(job)
  # These import numpy and av, which the job's module has imported by now.
  from torch_bridge import rendering, scoring

  store = contract.Store(pathlib.Path(job["store"]))
  try:
    if job["task"] == "encode":
      return module.make(store, job["encoder"])
    if job["task"] == "render":
      return rendering.Rendering(store, module.make(job["renderer"]))
    return scoring.Scoring(store, module.make(job["scorer"]))
  except ValueError as error:
    raise CannotStart(contract.EXIT_MODEL, str(error)) from error


def _work(job: dict[str, Any], folder: pathlib.Path, name: str) -> int:
  queue = shards.Queue(folder)
  heartbeat = shards.Heartbeat(queue, name)
  heartbeat("loading")
  work = loop.Loop(queue, _load(job), heartbeat, job.get("batch", 1))
  while shard := queue.take(name):
    heartbeat(f"shard {shard.stem}")
    if not work.run(shard):
      return contract.EXIT_FRESH
    queue.finish(shard)
  heartbeat("done")
  return contract.EXIT_DONE


if __name__ == "__main__":
  raise SystemExit(main())
