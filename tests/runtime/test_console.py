"""The progress bar, as a person sees it."""

import io
import re
import time

import rich.console

from vpo_jax.runtime import console


def test_the_bar_tells_the_time_that_is_left(monkeypatch):
  """What an earlier run did says nothing about this one's rate."""
  seen = io.StringIO()
  terminal = rich.console.Console(file=seen, force_terminal=True, width=120)
  monkeypatch.setattr(console, "console", terminal)
  with console.progress("train_sft", 1000, done=900) as advance:
    for loss in (2.0, 1.5, 1.25):
      time.sleep(0.2)
      advance(1, f"loss {loss}")
  shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.getvalue())
  last = [line for line in re.split(r"[\r\n]+", shown) if line.strip()][-1]
  done, hours, minutes, seconds, note = re.search(
    r"(\d+)/1000 .* left (\d+):(\d+):(\d+) (.*?) *$", last
  ).groups()
  assert (done, note) == ("903", "loss 1.25")
  # 97 steps of at least 0.2 s; with the 900 it would be a second.
  assert int(hours) * 3600 + int(minutes) * 60 + int(seconds) >= 19
