"""How tests wait for other processes and threads.

A limit only ends a test that hangs. It is long, because a machine may be slow or busy.
"""

import time

LIMIT_S = 600.0


def until(condition, alive=lambda: True, pause=0.02):
  """Waits until `condition()` is true, and returns its value.

  Args:
    alive: false as soon as it cannot become true any more.
  """
  end = time.monotonic() + LIMIT_S
  while not (value := condition()):
    assert alive(), "ended too early"
    assert time.monotonic() < end, "took too long"
    time.sleep(pause)
  return value
