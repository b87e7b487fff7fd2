"""Trip counts of loops in a compiled program.

XLA's CPU compiler annotates them (`known_trip_count`). libtpu does not; there the trip
count follows from the condition's comparison, the counter's start and its increment.
"""

import math
import re

from vpo_jax.plan import hlo

_KNOWN = re.compile(r'known_trip_count"?[:=]\s*\{\s*"?n"?\s*[:=]\s*"?(\d+)')
_SAME_VALUE = ("copy", "bitcast", "convert", "reshape")


def body(loop: hlo.Instruction) -> str:
  """The name of the computation that a `while` repeats."""
  return _called(loop, "body")


def trip_count(
  computations: dict[str, hlo.Computation],
  parent: hlo.Computation,
  loop: hlo.Instruction,
) -> float | None:
  """How often a `while` runs; None if that depends on the program's inputs.

  Args:
    parent: the computation that contains `loop`.
  """
  if known := _KNOWN.search(loop.attributes):
    return float(known[1])
  condition = computations[_called(loop, "condition")]
  step_body = computations[body(loop)]
  test = _root(condition)
  if test.op != "compare" or "direction=LT" not in test.attributes:
    return None
  counter = _element(condition, test.operands[0])
  initial = parent.get(loop.operands[0])
  if counter is None or initial is None or initial.op != "tuple":
    return None

  def number(computation: hlo.Computation, name: str) -> float | None:
    """A constant, or an element of the loop's tuple that no iteration changes."""
    value = _constant(computation, name)
    index = _element(computation, name)
    if value is None and index is not None and _invariant(step_body, index):
      value = _constant(parent, initial.operands[index])
    return value

  added = step_body.get(_root(step_body).operands[counter])
  if added is None or added.op != "add":
    return None
  increments = [n for n in added.operands if _element(step_body, n) != counter]
  start = _constant(parent, initial.operands[counter])
  end = number(condition, test.operands[1])
  increment = number(step_body, increments[0]) if len(increments) == 1 else None
  if start is None or end is None or not increment:
    return None
  return float(max(0, math.ceil((end - start) / increment)))


def _called(loop: hlo.Instruction, role: str) -> str:
  found = re.search(role + r"=%?([\w.\-]+)", loop.attributes)
  assert found, loop
  return found[1]


def _root(computation: hlo.Computation) -> hlo.Instruction:
  return next(i for i in computation.values() if i.root)


def _source(computation: hlo.Computation, name: str) -> hlo.Instruction | None:
  """The instruction that produced a value, before copies and reshapes of it."""
  instruction = computation.get(name)
  while instruction and instruction.op in _SAME_VALUE:
    instruction = computation.get(instruction.operands[0])
  return instruction


def _constant(computation: hlo.Computation, name: str) -> float | None:
  source = _source(computation, name)
  if source and source.op == "constant" and re.fullmatch(r"-?\d+", source.arguments):
    return float(source.arguments)
  return None


def _element(computation: hlo.Computation, name: str) -> int | None:
  """The index in the loop's tuple of a value that is read from it."""
  source = _source(computation, name)
  if source is None or source.op != "get-tuple-element":
    return None
  if computation[source.operands[0]].op != "parameter":
    return None
  index = re.search(r"index=(\d+)", source.attributes)
  return int(index[1]) if index else None


def _invariant(step_body: hlo.Computation, index: int) -> bool:
  return _element(step_body, _root(step_body).operands[index]) == index
