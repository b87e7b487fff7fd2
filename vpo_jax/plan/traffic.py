"""What an operation of a compiled program reads from main memory and writes to it."""

import dataclasses
import math

from vpo_jax.plan import hlo

Computations = dict[str, hlo.Computation]


def moved(
  computations: Computations, around: hlo.Computation, instruction: hlo.Instruction
) -> float:
  """Bytes; slices of an array, where only they are touched.

  Args:
    around: the computation that `instruction` stands in.
  """
  operands = [around[n] for n in instruction.operands if n in around]
  if instruction.op == "copy-start":  # its result names what it reads, too
    return instruction.far_bytes
  if instruction.op in ("slice-start", "dynamic-slice-start"):
    part = dataclasses.replace(
      instruction, shapes=instruction.shapes[1:2], near=instruction.near[1:2]
    )
    return part.bytes + part.far_bytes
  if instruction.op in ("dynamic-slice", "slice", "gather"):
    taken = min(instruction.bytes, operands[0].far_bytes)
    return taken + instruction.far_bytes
  if instruction.op in ("dynamic-update-slice", "scatter"):
    update = sum(operand.bytes for operand in operands[1:])
    return min(update, instruction.far_bytes) + sum(o.far_bytes for o in operands[1:])
  if instruction.op != "fusion":
    return instruction.far_bytes + sum(operand.far_bytes for operand in operands)
  called = instruction.called[0]
  fused = computations.get(called, {})
  # What a collective behind the products works on is only handed on.
  carried = instruction.carried if hlo.channels(fused) else {}
  reads = sum(
    min(read(computations, called, number), operand.far_bytes)
    for number, operand in enumerate(operands)
    if number not in carried.values()
  )
  return reads + _written(fused, instruction, carried)


def read(computations: Computations, called: str, number: int) -> float:
  """Bytes that a fusion reads of a parameter; infinite for all of it."""
  fused, place = computations.get(called, {}), ("parameter", str(number))
  name = next((i.name for i in fused.values() if (i.op, i.inside) == place), "")
  return _used(computations, fused, name)


def _used(computations: Computations, fused: hlo.Computation, name: str) -> float:
  if name not in fused or fused[name].root:
    return math.inf  # all of it goes on
  total = 0.0
  for user in (i for i in fused.values() if name in i.operands):
    same = user.bytes == fused[name].bytes
    if user.op in ("dynamic-slice", "gather") and user.operands[0] == name:
      total += user.bytes
    elif user.op == "dynamic-update-slice" and user.operands[0] == name:
      continue  # written in place
    elif same and user.op in ("bitcast", "reshape", "copy"):
      total += _used(computations, fused, user.name)
    elif user.op == "fusion":  # a TPU's have fusions in them
      inner = read(computations, user.called[0], user.operands.index(name))
      whole = same and math.isinf(inner)
      total += _used(computations, fused, user.name) if whole else inner
    else:
      return math.inf
  return total


def _written(
  fused: hlo.Computation, fusion: hlo.Instruction, carried: dict[int, int]
) -> float:
  root = next((i for i in fused.values() if i.root), None)
  if root is None:
    return fusion.far_bytes
  names = root.operands if root.op == "tuple" else (root.name,)
  total = 0.0
  for place, name in enumerate(names):
    made = fused.get(name)
    if made is None or place in carried:
      continue
    while made.op in ("bitcast", "copy") and made.operands[0] in fused:
      made = fused[made.operands[0]]
    if made.op == "dynamic-update-slice":
      total += fused[made.operands[1]].bytes if made.operands[1] in fused else 0
    else:
      total += made.bytes
  return min(total, fusion.far_bytes)
