"""Starts a launch script: parses flags and config, reports user errors in one line."""

import contextlib
import importlib
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from vpo_jax import errors, stages
from vpo_jax.runtime import allocator, compilation, console, help, processes

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def run_stage(module: str, default: str, *, distributed: bool = False) -> None:
  """Runs one stage from the command line, with `--config` and `--workdir`.

  `--config` may also name the config of a whole run (configs/paper.py); the stage then
  uses its own part of it.

  Args:
    module: the dotted name of the module that declares the stage as `STAGE`. It is
      imported after the flags are parsed, so that `--help` and flag errors are fast.
    default: for `--config`, a file of configs/.
    distributed: the stage runs on JAX devices, possibly as several processes
      (`processes.join`).
  """
  flag, workdir = _define_config(default), _define_workdir()
  join = _define_processes() if distributed else None
  if distributed:
    allocator.use_huge_pages()

  def main() -> None:
    if distributed:
      compilation.enable_cache(workdir.value)
    stage = importlib.import_module(module).STAGE
    if not stage.uses_jax:
      _forbid_devices()
    if join:
      join(stage.handles_sigterm)
    config = flag.value
    if stage.name in config:  # the config of a whole run, such as configs/paper.py
      config = config[stage.name].copy_and_resolve_references()
    try:
      counts = stages.run(stage, config, workdir.value)
    except SystemExit as end:  # of a preempted run
      processes.leave(int(end.code or 0))
      raise
    numbers = {k: v for k, v in counts.items() if isinstance(v, int | float | str)}
    console.say(" ".join(f"{key}={value}" for key, value in numbers.items()))
    processes.leave()

  run(main)


def run_pipeline(config: str, module: str = "vpo_jax.pipeline") -> None:
  """Runs several stages from the command line, with `--config` and `--workdir`.

  Args:
    config: the default for `--config`, a file of configs/.
    module: the dotted name of the module whose `run` gets both.
  """
  flag, workdir = _define_config(config), _define_workdir()
  allocator.use_huge_pages()

  def main() -> None:
    several = importlib.import_module(module)
    _forbid_devices()
    several.run(flag.value, workdir.value)

  run(main)


def run_preflight(config: str) -> None:
  """Runs `preflight.run` from the command line; exits with 1 if something is not ready.

  Args:
    config: the default for `--config`, a file of configs/.
  """
  flag, workdir = _define_config(config), _define_workdir()
  queries = flags.DEFINE_integer("queries", 4, "Queries for each half of the data.")

  def main() -> None:
    preflight = importlib.import_module("vpo_jax.preflight.preflight")
    _forbid_devices()
    if not preflight.run(flag.value, workdir.value, queries.value):
      sys.exit(1)

  run(main)


def _forbid_devices() -> None:
  """Makes it an error that this process uses a JAX device.

  It would keep most of a GPU's memory until its end, while the torch workers that it
  starts need that memory. Child processes are not affected.
  """
  if "jax" in sys.modules:
    sys.modules["jax"].config.update("jax_platforms", "none_in_this_process")


def _define_config(default: str) -> Any:
  # A default of the flag itself would be loaded here, outside of `_parse`'s error
  # handling, so the default is put into argv.
  if not any(a.lstrip("-").split("=")[0] == "config" for a in sys.argv[1:]):
    sys.argv.insert(1, f"--config={CONFIGS / default}")
  return config_flags.DEFINE_config_file(
    "config",
    None,
    f"The numbers, by default configs/{default}; --config.KEY=VALUE changes one.",
  )


def _define_workdir() -> Any:
  return flags.DEFINE_string(
    "workdir", None, "The folder that all stages of a run share.", required=True
  )


def _define_processes() -> Callable[[bool], None]:
  address = flags.DEFINE_string(
    "coordinator_address",
    None,
    "host:port of process 0; default: from the environment (SLURM, TPU, ...).",
  )
  number = flags.DEFINE_integer("num_processes", None, "The number of processes.")
  index = flags.DEFINE_integer("process_id", None, "This process's number, from 0.")

  def join(handles_sigterm: bool) -> None:
    processes.join(address.value, number.value, index.value, handles_sigterm)

  return join


def run(main: Callable[[], Any]) -> None:
  """Parses flags, runs `main`, and reports a user error in one line.

  Exit codes: 2 for a wrong flag or config value; 1 for a `UserError` or a file that the
  system refuses to write (disk full, no permission); 130 for Ctrl-C; 75 for training
  that saved its state on SIGTERM (`preemption`). Other exceptions are defects and keep
  their tracebacks.
  """
  app.run(lambda _: _guarded(main), flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
  if any(a.lstrip("-").split("=")[0] in ("help", "helpshort") for a in argv[1:]):
    with contextlib.suppress(BrokenPipeError):  # of `--help | head`
      print(_help(argv), flush=True)
    os._exit(0)
  try:
    rest = flags.FLAGS(list(argv))
    if "config" in flags.FLAGS:
      # A config file that failed to load raises its error on first access.
      config: Any = flags.FLAGS["config"].value
      config.to_dict()
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as e:
    # ml_collections raises all of these for unknown keys, wrong types and bad files.
    _exit(2, _one_line(e))
  return rest


def _help(argv: Sequence[str]) -> str:
  """The script's docstring, its flags, and the keys of its config."""
  parts = [sys.modules["__main__"].__doc__ or "", flags.FLAGS.main_module_help()]
  if "config" in flags.FLAGS:
    shared = flags.FLAGS.module_help(__name__).replace(__name__, "Flags")
    parts.append(shared.replace("\n    (default: 'None')", ""))
    config = [a.partition("=")[2] for a in argv if a.lstrip("-").startswith("config=")]
    parts.append(help.text(config[-1]))
  return "\n".join(part.strip("\n") + "\n" for part in parts if part)


def _one_line(error: BaseException) -> str:
  while error.args and isinstance(error.args[0], BaseException):
    error = error.args[0]  # ml_collections wraps a KeyError in an AttributeError
  text = str(error.args[0]) if error.args else type(error).__name__
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  if "Failed loading config file" in text:
    return f"--config: {lines[-1]}"
  line = " ".join(lines)
  if isinstance(error, KeyError):  # its text is the key and a similar one, if any
    line = f"--config has no {line}"
  return line


def _guarded(main: Callable[[], Any]) -> None:
  logging.set_verbosity(logging.FATAL)  # Orbax also raises what it logs
  try:
    main()
  except errors.UserError as error:
    _exit(1, str(error))
  except OSError as error:
    if error.errno not in errors.FOR_THE_USER:
      raise
    where = f"{error.filename}: " if error.filename else ""
    _exit(1, f"{where}{os.strerror(error.errno)}")
  except KeyboardInterrupt:
    _exit(130, "interrupted; run the same command again to continue")
  except Exception as error:
    if processes.count == 1:
      raise
    traceback.print_exc()
    line = processes.waited(error)
    # A normal exit would hang: JAX waits for the other processes, and they for this.
    _exit(1, line or f"{type(error).__name__}, see above")


def _exit(code: int, line: str) -> NoReturn:
  console.console.quiet = False
  console.say(f"error: {processes.with_index(line)}")
  end(code)  # without the tracebacks of library threads


def end(code: int = 0) -> NoReturn:
  """Ends the process at once, without destructors: those of JAX take half a second."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
