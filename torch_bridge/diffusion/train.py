"""Trains a video model on pairs of its videos, up to a step.

    python -m torch_bridge train --job=FOLDER/job.json --until=40

The job file and the encoded pairs are written by the stage train_diffusion_dpo. With
WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT set (as torchrun and
`accelerate launch` do) it is one of several processes. The run continues from its last
checkpoint; on SIGTERM it writes one and exits with 75.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import pathlib
import signal
import sys
import threading
from typing import Any

from torch_bridge import contract
from torch_bridge.renderers import base


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--job", required=True, help="the job file, in the run's folder")
  parser.add_argument("--until", type=int, required=True, help="the step to reach")
  parser.add_argument(
    "--check",
    action="store_true",
    help="check the packages, print the number of devices as JSON, and exit",
  )
  parser.add_argument(
    "--end_with_stdin",
    action="store_true",
    help="exit when standard input closes, as it does when the supervisor dies",
  )
  args = parser.parse_args(arguments)
  if args.end_with_stdin:
    threading.Thread(target=_end_with_stdin, daemon=True).start()
  received: list[int] = []
  signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
  path = pathlib.Path(args.job)
  try:
    job = json.loads(path.read_text(encoding="utf-8"))
    if job["version"] != contract.VERSION or job["task"] != "train":
      raise ValueError(f"not a job of training, version {contract.VERSION}")
  except (OSError, ValueError, KeyError, TypeError) as error:
    return _refuse(contract.EXIT_USAGE, f"{path}: not a job file: {error!r}")
  try:
    return _train(job, path.parent, args.until, received)
  except ImportError as error:
    line = f"{sys.executable} cannot train: {' '.join(str(error).split())}"
    return _refuse(contract.EXIT_IMPORT, line)
  except base.ModelError as error:
    return _refuse(contract.EXIT_MODEL, str(error))
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    place = f": {error.filename}" if error.filename else ""
    return _refuse(contract.EXIT_DISK, f"the disk is full{place}")


def _train(
  job: dict[str, Any], folder: pathlib.Path, until: int, received: list[int]
) -> int:
  # Packages that the interpreter may lack.
  from torch_bridge.diffusion import loop, processes

  accelerator = processes.accelerator(job)
  trainer = loop.Trainer(job, folder, accelerator)
  reached = trainer.run(until, lambda: bool(received))
  accelerator.end_training()
  return contract.EXIT_DONE if reached else contract.EXIT_SAVED


def _refuse(code: int, line: str) -> int:
  print(f"train: {line}", file=sys.stderr, flush=True)
  return code


def _end_with_stdin() -> None:
  # Unbuffered: a thread inside a buffered read would abort the interpreter at exit.
  while os.read(0, 4096):
    pass
  os._exit(contract.EXIT_DONE)


if __name__ == "__main__":
  raise SystemExit(main())
