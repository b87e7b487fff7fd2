"""Programs are measured in turns, and compared turn by turn."""

import time

from vpo_jax.bench import turns


def test_programs_take_turns_and_the_first_run_is_not_timed():
  calls = []

  def program(name, seconds):
    def run(step):
      # A machine that slows down between steps slows both.
      calls.append((name, step))
      time.sleep(seconds * (1 + step) * (5 if len(calls) <= 2 else 1))
      return 10

    return run

  result = turns.take(
    {"ours": program("ours", 0.02), "theirs": program("theirs", 0.06)}, 3, "tokens"
  )
  order = ["ours", "theirs"]
  assert calls == [(n, s) for s in (0, 0, 1, 2) for n in order]
  assert 2 < result["times_theirs"] < 4
  assert result["tokens_per_second"] > result["theirs_tokens_per_second"]
