"""Ends a process of several whose step does not end.

JAX's heartbeat tells of a process that has died or whose machine has stopped. It beats
on where a process hangs in Python or a device hangs; the others would then wait for it
without end. Steps that are alike take alike long, so here each process watches its own:
one that hangs ends where it is, and those that wait for it end with it.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

import jax

from vpo_jax.runtime import processes

PATIENCE = 20  # seconds that a step may take beyond `TIMES` its longest one so far
TIMES = 5


class Watch:
  """Watches the steps of one process; knows of no other.

  A step's clock runs where nothing but the step can take long: nothing is compiled in
  it, and no checkpoint came before it, for which this process or another may still be
  late. The first step that is so only shows how long one takes.
  """

  def __init__(self):
    self._fresh = 2  # steps until the clock runs
    self._longest: float | None = None
    self._name, self._began = "", time.monotonic()

  def step(self, name: str) -> None:
    """A step begins, and with it the one before has ended."""
    now = time.monotonic()
    if not self._fresh:
      self._longest = max(self._longest or 0.0, now - self._began)
    self._fresh = max(0, self._fresh - 1)
    self._name, self._began = name, now

  def pause(self) -> None:
    """What comes now may take as long as it likes."""
    self._fresh = 2

  def late(self) -> str | None:
    """The line to end with, once a step has taken too long."""
    passed, longest = time.monotonic() - self._began, self._longest
    if self._fresh or longest is None or passed < PATIENCE + TIMES * longest:
      return None
    return (
      f"{self._name} has not ended after {passed:.0f} s, the longest before it took"
      f" {longest:.1f} s: a process or a device hangs (this process is in {_where()});"
      " run the same command again to go on from what is saved"
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

  def listen(event: str, duration_secs: float, **_: object) -> None:
    if event.startswith("/jax/core/compile/"):  # traced: a compilation follows
      watch.pause()

  if processes.count > 1:
    threading.Thread(target=look, daemon=True).start()
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield watch
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
    done.set()


def _where() -> str:
  """File, line and function that the main thread is in."""
  frame = sys._current_frames()[threading.main_thread().ident or 0]
  code = frame.f_code
  return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} {code.co_name}"
