"""How often a loop of a compiled program runs.

XLA's CPU compiler writes it down (`known_trip_count`); a TPU's does not, and its loops
are read: what the condition compares, where the counter begins, what a turn adds to it.
"""

import math
import re

from vpo_jax.plan import hlo

_KNOWN = re.compile(r'known_trip_count"?[:=]\s*\{\s*"?n"?\s*[:=]\s*"?(\d+)')
_SAME = ("copy", "bitcast", "convert", "reshape")


def body(loop: hlo.Instruction) -> str:
  """The computation that a `while` runs."""
  return _named(loop, "body")


def count(
  computations: dict[str, hlo.Computation],
  around: hlo.Computation,
  loop: hlo.Instruction,
) -> float | None:
  """Turns of a `while`; None where the program is told them when it runs.

  Args:
    around: the computation that `loop` stands in.
  """
  if known := _KNOWN.search(loop.rest):
    return float(known[1])
  condition = computations[_named(loop, "condition")]
  turn = computations[body(loop)]
  test = _root(condition)
  if test.op != "compare" or "direction=LT" not in test.rest:
    return None
  place = _place(condition, test.operands[0])
  begins = around.get(loop.operands[0])
  if place is None or begins is None or begins.op != "tuple":
    return None

  def number(computation: hlo.Computation, name: str) -> float | None:
    """A constant, or what never changes of what the loop is given."""
    value = _constant(computation, name)
    index = _place(computation, name)
    if value is None and index is not None and _kept(turn, index):
      value = _constant(around, begins.operands[index])
    return value

  added = turn.get(_root(turn).operands[place])
  if added is None or added.op != "add":
    return None
  steps = [n for n in added.operands if _place(turn, n) != place]
  begin = _constant(around, begins.operands[place])
  end = number(condition, test.operands[1])
  step = number(turn, steps[0]) if len(steps) == 1 else None
  if begin is None or end is None or not step:
    return None
  return float(max(0, math.ceil((end - begin) / step)))


def _named(loop: hlo.Instruction, role: str) -> str:
  found = re.search(role + r"=%?([\w.\-]+)", loop.rest)
  assert found, loop
  return found[1]


def _root(computation: hlo.Computation) -> hlo.Instruction:
  return next(i for i in computation.values() if i.root)


def _origin(computation: hlo.Computation, name: str) -> hlo.Instruction | None:
  made = computation.get(name)
  while made and made.op in _SAME:
    made = computation.get(made.operands[0])
  return made


def _constant(computation: hlo.Computation, name: str) -> float | None:
  made = _origin(computation, name)
  if made and made.op == "constant" and re.fullmatch(r"-?\d+", made.inside):
    return float(made.inside)
  return None


def _place(computation: hlo.Computation, name: str) -> int | None:
  """Which element of the loop's tuple it is."""
  made = _origin(computation, name)
  if made is None or made.op != "get-tuple-element":
    return None
  if computation[made.operands[0]].op != "parameter":
    return None
  index = re.search(r"index=(\d+)", made.rest)
  return int(index[1]) if index else None


def _kept(turn: hlo.Computation, place: int) -> bool:
  return _place(turn, _root(turn).operands[place]) == place
