"""Starts a launch script: flags and config in, one clear line for a user's mistake."""

import errno
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from vpo_jax import errors
from vpo_jax.runtime import console, processes

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def run_stage(
  stage: Callable[[ml_collections.ConfigDict, str], Any],
  config: str,
  *,
  together: bool = False,
) -> None:
  """Runs one stage from the command line, with `--config` and `--workdir`.

  Args:
    stage: takes the config and the workdir.
    config: the default for `--config`, a file of configs/.
    together: the stage may run as several processes; see `processes.join`.
  """
  # The default is put into argv, not into the flag: the flag would load it here,
  # where a wrong --config.KEY is not caught.
  flag = config_flags.DEFINE_config_file(
    "config", None, "The numbers; --config.KEY=VALUE changes one."
  )
  workdir = flags.DEFINE_string(
    "workdir", None, "The folder that all stages share.", required=True
  )
  if not any(a.lstrip("-").split("=")[0] == "config" for a in sys.argv[1:]):
    sys.argv.insert(1, f"--config={CONFIGS / config}")
  join = _define_processes() if together else lambda: None

  def main() -> None:
    join()
    try:
      stage(flag.value, workdir.value)
    except SystemExit:  # a preempted run ends as one, too
      processes.leave()
      raise
    processes.leave()

  run(main)


def _define_processes() -> Callable[[], None]:
  address = flags.DEFINE_string(
    "coordinator_address", None, "host:port of process 0; None asks the environment."
  )
  number = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
  index = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
  return lambda: processes.join(address.value, number.value, index.value)


def run(main: Callable[[], Any]) -> None:
  """Parses flags, runs `main`, and turns users' mistakes into one line.

  Exits with 2 when a flag or config value is wrong, with 1 when `main` raises
  `UserError` or the system refuses a file (full disk, no permission), with 130 on
  Ctrl-C, with 75 when training saved and left on SIGTERM (`train.preemption`). Any
  other exception is a defect and keeps its traceback.
  """
  app.run(lambda _: _guarded(main), flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
  if any(a.lstrip("-").split("=")[0] in ("help", "helpshort") for a in argv[1:]):
    return app.parse_flags_with_usage(list(argv))
  try:
    rest = flags.FLAGS(list(argv))
    if "config" in flags.FLAGS:
      # A file that failed to load says so when it is looked into.
      config: Any = flags.FLAGS["config"].value
      config.to_dict()
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as e:
    # ml_collections raises its own kinds for unknown keys, wrong types, bad files.
    _exit(2, _one_line(e))
  return rest


def _one_line(error: BaseException) -> str:
  while error.args and isinstance(error.args[0], BaseException):
    error = error.args[0]  # ml_collections wraps a KeyError in an AttributeError
  text = str(error.args[0]) if error.args else type(error).__name__
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  if "Failed loading config file" in text:
    return f"--config: {lines[-1]}"
  line = " ".join(lines)
  if isinstance(error, KeyError):  # the key, and the nearest one if one is near
    line = f"--config has no {line}"
  return line


def _guarded(main: Callable[[], Any]) -> None:
  logging.set_verbosity(logging.FATAL)  # what Orbax logs, it raises as well
  try:
    main()
  except errors.UserError as error:
    _exit(1, str(error))
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS):
      raise
    where = f"{error.filename}: " if error.filename else ""
    _exit(1, f"{where}{os.strerror(error.errno)}")
  except KeyboardInterrupt:
    _exit(130, "interrupted; run the same command again to go on")
  except Exception as error:
    if processes.count == 1:
      raise
    line = processes.explained(error)
    if line is None:
      traceback.print_exc()
    # At the interpreter's own end, JAX would wait for the others, who wait for us.
    _exit(1, line or f"{type(error).__name__}, see above")


def _exit(code: int, line: str) -> NoReturn:
  console.console.quiet = False
  console.say(f"error: {processes.said(line)}")
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)  # threads of libraries that failed would bury the line in tracebacks
