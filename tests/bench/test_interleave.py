"""Programs are measured in turns, and compared turn by turn."""

import types

import pytest

from vpo_jax.bench import turns


def test_programs_take_turns_and_the_second_run_of_each_is_timed(monkeypatch):
  clock = types.SimpleNamespace(now=0.0)
  monkeypatch.setattr(turns.time, "perf_counter", lambda: clock.now)
  calls = []

  def program(name, seconds):
    def run(step):
      again = bool(calls) and calls[-1][0] == name
      calls.append((name, step))
      # A machine that slows down between steps slows both; what was given back while
      # the other ran is fetched again first.
      clock.now += seconds * (1 + step) + (0 if again else 100)
      return 12

    return run

  programs = {"ours": program("ours", 1), "theirs": program("theirs", 3)}
  result = turns.take(programs, 3, "tokens")
  pairs = [(0, 1), (2, 3), (4, 5)]
  assert calls == [(name, step) for pair in pairs for name in programs for step in pair]
  assert turns.calls(3) == 6
  assert list(turns.timed(3)) == [second for _, second in pairs]
  assert result == {
    "tokens_per_second": pytest.approx(12 / 4),  # of 12 / 2, 12 / 4, 12 / 6
    "theirs_tokens_per_second": pytest.approx(12 / 12),
    "times_theirs": pytest.approx(3),
  }
