"""Interleaves the timed steps of several programs, so noise affects all alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from vpo_jax.runtime import console

# Does the work of a step, given its number; returns the units of work done.
Program = Callable[[int], int]


def calls(steps: int) -> int:
  """Calls of each program for `steps` timed steps."""
  return 2 * steps


def timed(steps: int) -> range:
  """The calls that are timed."""
  return range(1, calls(steps), 2)


def run(programs: Mapping[str, Program], steps: int, unit: str) -> dict[str, Any]:
  """Times the programs in turns, each timed step preceded by an untimed one.

  The untimed step is needed because a virtual machine may take back the memory that a
  program freed while another one runs; getting it again takes seconds.

  Args:
    programs: by name.
    steps: timed steps of each program.
    unit: what a program counts, for the keys of the result.

  Returns: the median `<unit>_per_second` of the first program and, for each other one,
    its median and the median ratio of the first program's rate to it.
  """
  rates: dict[str, list[float]] = {name: [] for name in programs}
  for step in timed(steps):
    for name, program in programs.items():
      program(step - 1)
      start = time.perf_counter()
      units = program(step)
      rates[name].append(units / (time.perf_counter() - start))
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
