"""A step that hangs is told from one that may take long."""

import pytest

from vpo_jax.train import hang


@pytest.fixture
def clock(monkeypatch):
  """`clock[0]` is the time."""
  now = [0.0]
  monkeypatch.setattr(hang.time, "monotonic", lambda: now[0])
  return now


def run(watch, clock, steps, seconds, shape="a"):
  for number in steps:
    watch.step(number, shape)
    clock[0] += seconds


def test_a_step_as_others_but_much_longer_hangs(clock):
  watch = hang.Watch()
  run(watch, clock, range(1, 9), 2.0)
  watch.step(9, "a")
  clock[0] += hang.PATIENCE + hang.TIMES * 2.0 - 1
  assert watch.late() is None
  clock[0] += 2
  line = watch.late()
  assert line
  assert line.startswith("step 9 has not ended after 41 s, the longest before it took")
  assert "this process is in hang.py:" in line


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_first_steps_may_take_long(clock, steps):
  watch = hang.Watch()
  run(watch, clock, range(steps), 2.0)
  watch.step(steps, "a")
  clock[0] += 1000
  assert watch.late() is None


def test_what_compiles_or_follows_a_checkpoint_may_take_long(clock):
  watch = hang.Watch()
  run(watch, clock, range(1, 9), 2.0)
  watch.step(9, "b")
  clock[0] += 1000
  assert watch.late() is None
  run(watch, clock, range(10, 19), 2.0)
  watch.pause()
  clock[0] += 1000
  assert watch.late() is None
  watch.step(19, "a")  # the process that writes may be late
  clock[0] += 1000
  assert watch.late() is None
  # None of these was a step's own time.
  watch.step(20, "a")
  clock[0] += hang.PATIENCE + hang.TIMES * 2.0 + 1
  assert watch.late()
