"""How tests wait for other processes and threads.

The limit is long, because a machine may be slow or busy; it only ends a test that
hangs. What a test makes hang on purpose must hang for longer.
"""

import time

LIMIT_S = 600.0


def until(condition, alive=lambda: True, log=lambda: "", pause=0.02):
  """Waits until `condition()` is true, and returns its value.

  Args:
    alive: false as soon as the condition cannot become true any more.
    log: what is printed if it does not become true.
    pause: seconds between two checks.
  """
  end = time.monotonic() + LIMIT_S
  while not (value := condition()):
    assert alive(), f"ended too early: {log()}"
    assert time.monotonic() < end, f"took too long: {log()}"
    time.sleep(pause)
  return value
