"""SIGTERM: the machine is wanted back, so save and leave with a code that says so."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from jax.experimental import multihost_utils

from vpo_jax.runtime import processes

# EX_TEMPFAIL of sysexits.h: nothing is wrong, run the same command again.
EXIT_CODE = 75


@contextlib.contextmanager
def noticed() -> Iterator[Callable[[int], bool]]:
  """Within, SIGTERM does not end the process.

  Yields: says at a step whether to leave after it. Of several processes all say so at
    the same step, whichever got the signal.
  """
  if processes.count > 1:  # JAX took the signal when they joined
    yield multihost_utils.reached_preemption_sync_point
    return
  came: list[int] = []
  if threading.current_thread() is not threading.main_thread():
    yield lambda step: False  # Python lets only the main thread handle signals
    return
  former = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
  try:
    yield lambda step: bool(came)
  finally:
    signal.signal(signal.SIGTERM, former)
