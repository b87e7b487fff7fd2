"""Preemption: on SIGTERM, training saves a checkpoint and exits with `EXIT_CODE`."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from jax.experimental import multihost_utils

from vpo_jax.runtime import processes

# EX_TEMPFAIL of sysexits.h: no error; the same command continues the run.
EXIT_CODE = 75


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[int], bool]]:
  """A context in which SIGTERM does not end the process.

  Yields: `preempted(step)`, whether to exit after this step. In a distributed run all
    processes agree on the step, whichever of them received the signal.
  """
  if processes.count > 1:  # JAX handles the signal since `processes.join`
    yield multihost_utils.reached_preemption_sync_point
    return
  received: list[int] = []
  if threading.current_thread() is not threading.main_thread():
    yield lambda step: False  # only the main thread can handle signals
    return
  previous = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
  try:
    yield lambda step: bool(received)
  finally:
    signal.signal(signal.SIGTERM, previous)
