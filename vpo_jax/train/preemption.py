"""SIGTERM: the machine is wanted back, so save and leave with a code that says so."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

# EX_TEMPFAIL of sysexits.h: nothing is wrong, run the same command again.
EXIT_CODE = 75


@contextlib.contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
  """Within, SIGTERM does not end the process; the function given says if it came."""
  came: list[int] = []
  if threading.current_thread() is not threading.main_thread():
    yield lambda: False  # Python lets only the main thread handle signals
    return
  former = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
  try:
    yield lambda: bool(came)
  finally:
    signal.signal(signal.SIGTERM, former)
