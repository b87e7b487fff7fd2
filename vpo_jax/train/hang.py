"""Ends a process of several whose step does not end.

JAX's heartbeat tells of a process that has died or whose machine has stopped. It beats
on where a process hangs in Python or a device hangs; the others would then wait for it
without end. Steps of training that are alike take alike long, so here each process
watches its own: one that hangs ends where it is, those that wait for it end with it.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Hashable, Iterator

from vpo_jax import processes

PATIENCE = 30  # seconds that a step may take beyond `TIMES` its longest one so far
TIMES = 5


class Watch:
  """Watches the steps of one process; knows of no other.

  A step's clock runs where nothing but the step can take long: its shape has been
  compiled, and no evaluation or checkpoint came before it, for which this process or
  another may still be late. The first step that is so only shows how long one takes.
  """

  def __init__(self):
    self._shapes: set[Hashable] = set()
    self._fresh = 2  # steps until the clock runs
    self._longest: float | None = None
    self._step, self._began = 0, time.monotonic()

  def step(self, number: int, shape: Hashable) -> None:
    """A step begins, and with it the one before has ended."""
    now = time.monotonic()
    if not self._fresh:
      self._longest = max(self._longest or 0.0, now - self._began)
    self._fresh = max(0, self._fresh - 1) if shape in self._shapes else 2
    self._shapes.add(shape)
    self._step, self._began = number, now

  def pause(self) -> None:
    """What comes now may take as long as it likes."""
    self._fresh = 2

  def late(self) -> str | None:
    """The line to end with, once a step has taken too long."""
    passed, longest = time.monotonic() - self._began, self._longest
    if self._fresh or longest is None or passed < PATIENCE + TIMES * longest:
      return None
    return (
      f"step {self._step} has not ended after {passed:.0f} s, the longest before it"
      f" took {longest:.1f} s: a process or a device hangs (this process is in"
      f" {_where()}); run the same command again to go on from the last checkpoint"
    )


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
  """Within, a step that hangs ends the process, where it is one of several."""
  watch, done = Watch(), threading.Event()

  def look() -> None:
    while not done.wait(1):
      if line := watch.late():
        os.write(2, f"error: {processes.said(line)}\n".encode())
        os._exit(1)  # no exception reaches a thread that hangs

  if processes.count > 1:
    threading.Thread(target=look, daemon=True).start()
  try:
    yield watch
  finally:
    done.set()


def _where() -> str:
  """File, line and function that the main thread is in."""
  frame = sys._current_frames()[threading.main_thread().ident or 0]
  code = frame.f_code
  return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} {code.co_name}"
