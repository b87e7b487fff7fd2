"""Calls a function in a process of its own, so that its memory is free afterwards.

A process that has used JAX keeps most of a GPU's memory until it ends. Work on
accelerators that is followed by other programs on the same devices runs in a child.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from absl import logging

from vpo_jax import errors

_Result = TypeVar("_Result")


def call(name: str, function: Callable[..., _Result], *arguments: Any) -> _Result:
  """Runs `function(*arguments)` in a new process and returns its result.

  The function, its arguments and its result must be picklable. SIGTERM and Ctrl-C reach
  the child, and the child ends if this process is killed.

  Args:
    name: the name of the work, for error messages.

  Raises:
    UserError: the function raises it, the child was killed, or the function failed with
      another exception, whose traceback the child has printed.
    OSError: the function raises it, for example because the disk is full.
    KeyboardInterrupt: Ctrl-C.
    SystemExit: the child exited with another code (see `preemption`).
  """
  context = multiprocessing.get_context("spawn")
  receiver, sender = context.Pipe(duplex=False)
  process = context.Process(target=_run, args=(sender, function, arguments))
  with _forwarded(signal.SIGTERM, process):
    process.start()
    sender.close()
    outcome = None
    with contextlib.suppress(EOFError):  # it ended without an outcome
      outcome = receiver.recv()
    process.join()
  if outcome is None:
    raise _ended(name, process.exitcode or 0)
  kind, value = outcome
  if kind == "error":
    raise value
  return value


def _ended(name: str, code: int) -> BaseException:
  if code == -signal.SIGTERM:
    return SystemExit(128 + signal.SIGTERM)
  if code == -signal.SIGINT or code == 128 + signal.SIGINT:
    return KeyboardInterrupt()
  if code < 0:
    hint = "; the machine may be out of memory" if code == -signal.SIGKILL else ""
    return errors.UserError(
      f"{name}: its process was killed by {signal.Signals(-code).name}{hint}; run the"
      " same command again to continue"
    )
  if code == 1:
    return errors.UserError(f"{name}: failed with the exception above")
  return SystemExit(code)


@contextlib.contextmanager
def _forwarded(number: signal.Signals, process: Any) -> Iterator[None]:
  """A context in which a signal goes to the child, which decides what to do."""
  if threading.current_thread() is not threading.main_thread():
    yield  # only the main thread can handle signals
    return

  def forward(*_: Any) -> None:
    if process.pid is None:
      sys.exit(128 + number)
    if process.is_alive():
      os.kill(process.pid, number)

  previous = signal.signal(number, forward)
  try:
    yield
  finally:
    signal.signal(number, previous)


def _run(
  sender: multiprocessing.connection.Connection,
  function: Callable[..., Any],
  arguments: tuple[Any, ...],
) -> None:
  """The child: sends ("result", value) or ("error", exception)."""
  logging.set_verbosity(logging.FATAL)  # as in `app`
  threading.Thread(target=_end_with_parent, daemon=True).start()
  try:
    sender.send(("result", function(*arguments)))
  except errors.UserError as error:
    sender.send(("error", errors.UserError(str(error))))
  except OSError as error:
    if error.errno not in errors.FOR_THE_USER:
      _fail()
    sender.send(("error", OSError(error.errno, error.strerror, error.filename)))
  except KeyboardInterrupt:
    os._exit(128 + signal.SIGINT)
  except Exception:
    _fail()


def _fail() -> None:
  traceback.print_exc()
  sys.stderr.flush()
  os._exit(1)  # an exit that waits for no thread


def _end_with_parent() -> None:
  parent = multiprocessing.parent_process()
  if parent is not None:
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
