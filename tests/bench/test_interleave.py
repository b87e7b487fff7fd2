"""Programs are timed in turns and compared step by step."""

import time
import types

import pytest

from vpo_jax.bench import interleave


def test_programs_alternate_and_the_second_step_of_each_is_timed(monkeypatch):
  clock = types.SimpleNamespace(now=0.0)
  monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
  calls = []

  def program(name, seconds):
    def run(step):
      again = bool(calls) and calls[-1][0] == name
      calls.append((name, step))
      # The machine slows down with each step, and a program's first step after the
      # other one's is slower still.
      clock.now += seconds * (1 + step) + (0 if again else 100)
      return 12

    return run

  programs = {"ours": program("ours", 1), "theirs": program("theirs", 3)}
  result = interleave.run(programs, 3, "tokens")
  pairs = [(0, 1), (2, 3), (4, 5)]
  assert calls == [(name, step) for pair in pairs for name in programs for step in pair]
  assert interleave.calls(3) == 6
  assert list(interleave.timed(3)) == [timed for _, timed in pairs]
  assert result == {
    "tokens_per_second": pytest.approx(12 / 4),  # median of 12 / 2, 12 / 4, 12 / 6
    "theirs_tokens_per_second": pytest.approx(12 / 12),
    "times_theirs": pytest.approx(3),
  }
