"""Ends the processes of a distributed run when a step hangs.

JAX's heartbeat detects a process that has died or whose machine has stopped. But the
heartbeat continues when Python code or a device hangs, and then the other processes
would wait forever. Similar steps take similar time, so each process times its own steps
and exits when one takes far too long; the processes that wait for it do the same.
"""

import contextlib
import faulthandler
import os
import threading
import time
from collections.abc import Iterator

import jax

from vpo_jax.runtime import preemption, processes

# A step counts as hung after the patience + TIMES x the longest step of its kind.
TIMES = 5
_GRACE = 10  # seconds in which the other processes notice the hang too


class Watch:
  """Times the steps of this process, by kind.

  Steps that compile, and steps after a checkpoint (another process may still be saving
  it), are not timed. The first timed step of a kind only sets its expected duration.
  """

  def __init__(self, patience_minutes: float):
    self._patience = 60 * patience_minutes  # seconds
    self._untimed = 2  # steps until the first timed one
    self._longest: dict[str, float] = {}  # seconds, by kind
    self._kind = self._name = ""
    self._began = time.monotonic()

  def step(self, kind: str, number: int) -> None:
    """Starts the clock of a step, and ends the step before it.

    Args:
      kind: the name of the work; only steps of one kind are compared.
      number: of the step, for the error message.
    """
    self._end()
    self._untimed = max(0, self._untimed - 1)
    self._kind, self._name = kind, f"{kind} {number}"
    self._began = time.monotonic()

  def pause(self) -> None:
    """Ends a step. What comes next, such as a checkpoint, may take long."""
    self._end()
    self._untimed = 2

  def forget(self) -> None:
    """Does not time the current step, because it compiles."""
    self._untimed = 2

  def _end(self) -> None:
    if not self._untimed:
      longest = self._longest.get(self._kind, 0.0)
      self._longest[self._kind] = max(longest, time.monotonic() - self._began)

  def overdue(self) -> str | None:
    """The error line if the step has taken too long; None otherwise."""
    passed, longest = time.monotonic() - self._began, self._longest.get(self._kind)
    if self._untimed or longest is None or passed < self._patience + TIMES * longest:
      return None
    return (
      f"{self._name} has not ended after {passed:.0f} s; the longest earlier one took"
      f" {longest:.1f} s: a process or a device hangs (the stacks are above); run the"
      " same command again to continue from what is saved, with a larger"
      " config.hang_minutes if nothing was wrong"
    )


@contextlib.contextmanager
def watched(patience_minutes: float) -> Iterator[Watch]:
  """A context in which a step that hangs ends a process of a distributed run.

  The process prints the stacks of all its threads and exits with
  `preemption.EXIT_CODE`, so that the cluster's scripts start the run again.

  Args:
    patience_minutes: see `Watch`.
  """
  watch, done = Watch(patience_minutes), threading.Event()

  def look() -> None:
    while not done.wait(1):
      if line := watch.overdue():
        faulthandler.dump_traceback(2)
        os.write(2, f"error: {processes.with_index(line)}\n".encode())
        # When the first one exits, JAX aborts those that have not yet noticed.
        time.sleep(_GRACE)
        os._exit(preemption.EXIT_CODE)  # nothing else interrupts a hanging main thread

  def listen(event: str, duration_secs: float, **_: object) -> None:
    if event.startswith("/jax/core/compile/"):  # tracing: a compilation follows
      watch.forget()

  if processes.count > 1:
    threading.Thread(target=look, daemon=True).start()
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield watch
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
    done.set()
