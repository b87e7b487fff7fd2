"""Two programs in turns on one machine, so that its moods fall on both."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from vpo_jax.runtime import console

# The number of a step to how many units it made.
Program = Callable[[int], int]


def calls(steps: int) -> int:
  """How often each program is called for so many timed steps."""
  return 2 * steps


def timed(steps: int) -> range:
  """Which of its calls are timed."""
  return range(1, calls(steps), 2)


def take(programs: Mapping[str, Program], steps: int, unit: str) -> dict[str, Any]:
  """Runs every program twice a turn and times the second run.

  As in a training, it follows a run of its own. What a process gives back at the end of
  a step a virtual machine may hand to its host while another program runs, and takes
  seconds to fetch again.

  Args:
    programs: by name; each does the work of a step and returns how many units it made.
    steps: how many timed runs each gets.
    unit: what is counted, for the keys of the result.

  Returns: `<unit>_per_second` of the first program (median), and where there are more,
    each one's median and the median of the first one's ratio to it.
  """
  rates: dict[str, list[float]] = {name: [] for name in programs}
  for step in timed(steps):
    for name, program in programs.items():
      program(step - 1)
      began = time.perf_counter()
      made = program(step)
      rates[name].append(made / (time.perf_counter() - began))
      console.say(f"step {step}: {name} {rates[name][-1]:.2f} {unit}/s")
  first, *others = programs
  result: dict[str, Any] = {
    f"{unit}_per_second": round(statistics.median(rates[first]), 2)
  }
  for name in others:
    ratios = [a / b for a, b in zip(rates[first], rates[name], strict=True)]
    result[f"{name}_{unit}_per_second"] = round(statistics.median(rates[name]), 2)
    result[f"times_{name}"] = round(statistics.median(ratios), 2)
  return result
