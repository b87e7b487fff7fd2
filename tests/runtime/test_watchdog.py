"""The watchdog detects a hanging step, and allows for steps that may take long."""

import jax
import jax.numpy as jnp
import pytest

from vpo_jax.runtime import watchdog


@pytest.fixture
def clock(monkeypatch):
  """`clock[0]` is the time in seconds."""
  now = [0.0]
  monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
  return now


PATIENCE = 20.0  # seconds


def make():
  return watchdog.Watch(PATIENCE / 60)


def run(watch, clock, steps, seconds, kind="step"):
  for number in steps:
    watch.step(kind, number)
    clock[0] += seconds


def test_a_step_much_longer_than_the_others_hangs(clock):
  watch = make()
  run(watch, clock, range(1, 9), 2.0)
  watch.step("step", 9)
  clock[0] += PATIENCE + watchdog.TIMES * 2.0 - 1
  assert watch.overdue() is None
  clock[0] += 2
  line = watch.overdue()
  assert line
  assert line.startswith(
    "step 9 has not ended after 31 s; the longest earlier one took 2"
  )


def test_only_steps_of_one_kind_are_compared(clock):
  """Short evaluations do not make a long training step count as hung."""
  watch = make()
  run(watch, clock, range(1, 4), 64.0, "training step")
  run(watch, clock, range(1, 30), 1.0, "micro-batch of the evaluation")
  watch.step("training step", 4)
  clock[0] += 64.0 + PATIENCE + 1
  assert watch.overdue() is None
  watch.step("micro-batch of the evaluation", 30)
  clock[0] += PATIENCE + watchdog.TIMES * 1.0 + 1
  assert watch.overdue()


def test_a_step_that_a_checkpoint_follows_is_timed(clock):
  """An evaluation is often one micro-batch, after which the best weights are saved."""
  watch = make()
  for number in range(1, 4):
    run(watch, clock, range(1, 5), 1.0, "training step")
    run(watch, clock, [number], 2.0, "micro-batch of the evaluation")
    watch.pause()
    clock[0] += 100
  run(watch, clock, range(1, 5), 1.0, "training step")
  watch.step("micro-batch of the evaluation", 4)
  clock[0] += PATIENCE + watchdog.TIMES * 2.0 - 1
  assert watch.overdue() is None
  clock[0] += 2
  assert watch.overdue()


def test_the_first_timed_step_of_a_kind_may_take_long(clock):
  watch = make()
  run(watch, clock, range(1, 9), 1.0, "micro-batch of the evaluation")
  watch.step("training step", 1)
  clock[0] += 1000
  assert watch.overdue() is None


@pytest.mark.parametrize("steps", [0, 1])
def test_first_steps_may_take_long(clock, steps):
  watch = make()
  run(watch, clock, range(steps), 2.0)
  watch.step("step", steps)
  clock[0] += 1000
  assert watch.overdue() is None


def test_compilation_may_take_long(clock):
  def double(x):
    return 2 * x

  with watchdog.watched(PATIENCE / 60) as watch:
    run(watch, clock, range(1, 9), 2.0)
    watch.step("step", 9)
    jax.jit(double)(jnp.zeros(3))
    clock[0] += 1000
    assert watch.overdue() is None
    # Its time does not count as a step's either.
    run(watch, clock, range(10, 19), 2.0)
    jax.jit(double)(jnp.zeros(3))
    clock[0] += PATIENCE + watchdog.TIMES * 2.0 + 1
    assert watch.overdue()


def test_a_checkpoint_and_the_step_after_it_may_take_long(clock):
  watch = make()
  run(watch, clock, range(1, 19), 2.0)
  watch.pause()
  clock[0] += 1000
  assert watch.overdue() is None
  watch.step("step", 19)  # another process may still be writing
  clock[0] += 1000
  assert watch.overdue() is None
  # None of this counts as the time of a step.
  watch.step("step", 20)
  clock[0] += PATIENCE + watchdog.TIMES * 2.0 + 1
  assert watch.overdue()
