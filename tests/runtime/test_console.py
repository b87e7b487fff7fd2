"""Progress, as a person sees it on a terminal and in a log."""

import io
import re
import time

import pytest
import rich.console

from vpo_jax.runtime import console


@pytest.fixture
def screen(monkeypatch):
  """`screen(terminal)`: what the console prints from here on."""

  def start(terminal):
    seen = io.StringIO()
    target = rich.console.Console(file=seen, force_terminal=terminal, width=120)
    monkeypatch.setattr(console, "console", target)
    return seen

  return start


def test_the_bar_shows_the_time_left(screen):
  """Work of an earlier run does not count into this run's rate."""
  seen = screen(terminal=True)
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
  # 97 steps of at least 0.2 s; with the earlier 900 it would be a second.
  assert int(hours) * 3600 + int(minutes) * 60 + int(seconds) >= 19


def test_a_log_gets_a_line_at_intervals_even_while_nothing_advances(
  screen, monkeypatch
):
  seen = screen(terminal=False)
  monkeypatch.setattr(console, "FIRST_LINE", 0.1)
  monkeypatch.setattr(console, "INTERVAL", 0.2)
  with console.progress("train_sft", 1000, done=900) as advance:
    advance(1, "loss 2.00")
    time.sleep(1.0)
    advance(1, "loss 1.50")
  *lines, last = seen.getvalue().splitlines()
  assert len(lines) >= 3
  for line in lines:
    done, rate, minutes, seconds = re.fullmatch(
      r"train_sft (\d+)/1000, ([\d.]+)/(?:s|min), 0:(\d+):(\d+) left, loss 2.00", line
    ).groups()
    assert done == "901"
    assert float(rate) > 0
    assert int(minutes) * 60 + int(seconds) >= 9  # 99 steps at most at one per 0.1 s
  assert re.fullmatch(r"train_sft 902/1000, [\d.]+/\w+, took 0:00:0\d, loss 1.50", last)


def test_a_short_stage_writes_one_line(screen):
  seen = screen(terminal=False)
  with console.progress("merge", 3) as advance:
    advance(3, "")
  assert re.fullmatch(r"merge 3/3, [\d.]+/s, took 0:00:00\n", seen.getvalue())
