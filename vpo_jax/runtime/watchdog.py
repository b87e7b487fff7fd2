"""Ends the processes of a distributed run when a step hangs.

JAX's heartbeat detects a process that has died or whose machine has stopped. But the
heartbeat continues when Python code or a device hangs, and then the other processes
would wait forever. Similar steps take similar time, so each process times its own steps
and exits when one takes far too long; the processes that wait for it do the same.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

import jax

from vpo_jax.runtime import processes

# A step counts as hung after PATIENCE seconds + TIMES x the longest step so far.
PATIENCE = 20
TIMES = 5


class Watch:
  """Times the steps of this process.

  Steps that compile, and steps after a checkpoint (another process may still be saving
  it), are not timed, and the first timed step only sets the expected duration.
  """

  def __init__(self):
    self._untimed = 2  # steps until the first timed one
    self._longest: float | None = None
    self._name, self._began = "", time.monotonic()

  def step(self, name: str) -> None:
    """Starts the clock of a step, and ends the step before it."""
    now = time.monotonic()
    if not self._untimed:
      self._longest = max(self._longest or 0.0, now - self._began)
    self._untimed = max(0, self._untimed - 1)
    self._name, self._began = name, now

  def pause(self) -> None:
    """Stops the clock: what comes next, such as a checkpoint, may take long."""
    self._untimed = 2

  def overdue(self) -> str | None:
    """The error line if the step has taken too long; None otherwise."""
    passed, longest = time.monotonic() - self._began, self._longest
    if self._untimed or longest is None or passed < PATIENCE + TIMES * longest:
      return None
    return (
      f"{self._name} has not ended after {passed:.0f} s; the longest earlier step took"
      f" {longest:.1f} s: a process or a device hangs (this process is in {_where()});"
      " run the same command again to continue from what is saved"
    )


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
  """A context in which a step that hangs ends a process of a distributed run."""
  watch, done = Watch(), threading.Event()

  def look() -> None:
    while not done.wait(1):
      if line := watch.overdue():
        os.write(2, f"error: {processes.with_index(line)}\n".encode())
        os._exit(1)  # an exception cannot interrupt a hanging main thread

  def listen(event: str, duration_secs: float, **_: object) -> None:
    if event.startswith("/jax/core/compile/"):  # tracing: a compilation follows
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
  """File, line and function where the main thread is."""
  frame = sys._current_frames()[threading.main_thread().ident or 0]
  code = frame.f_code
  return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} {code.co_name}"
