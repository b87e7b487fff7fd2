"""Main-memory traffic of an operation of a compiled program."""

import dataclasses
import math

from vpo_jax.plan import hlo

Computations = dict[str, hlo.Computation]


def bytes_moved(
  computations: Computations, parent: hlo.Computation, instruction: hlo.Instruction
) -> float:
  """Bytes that an operation reads and writes; only the slices of sliced arrays count.

  Args:
    parent: the computation that contains `instruction`.
  """
  operands = [parent[name] for name in instruction.operands if name in parent]
  if instruction.op == "copy-start":  # its result also includes its source
    return instruction.main_bytes
  if instruction.op in ("slice-start", "dynamic-slice-start"):
    part = dataclasses.replace(
      instruction, shapes=instruction.shapes[1:2], on_chip=instruction.on_chip[1:2]
    )
    return part.bytes + part.main_bytes
  if instruction.op in ("dynamic-slice", "slice", "gather"):
    read = min(instruction.bytes, operands[0].main_bytes)
    return read + instruction.main_bytes
  if instruction.op in ("dynamic-update-slice", "scatter"):
    update = sum(operand.bytes for operand in operands[1:])
    written = min(update, instruction.main_bytes)
    return written + sum(operand.main_bytes for operand in operands[1:])
  if instruction.op != "fusion":
    return instruction.main_bytes + sum(operand.main_bytes for operand in operands)
  called = instruction.called[0]
  fused = computations.get(called, {})
  # A fusion that overlaps a collective passes the collective's buffers through.
  aliases = instruction.aliases if hlo.channels(fused) else {}
  reads = sum(
    min(bytes_read(computations, called, number), operand.main_bytes)
    for number, operand in enumerate(operands)
    if number not in aliases.values()
  )
  return reads + _bytes_written(fused, instruction, aliases)


def bytes_read(computations: Computations, called: str, number: int) -> float:
  """Bytes that a fusion reads of its parameter `number`; infinity means all."""
  fused, parameter = computations.get(called, {}), ("parameter", str(number))
  name = next((i.name for i in fused.values() if (i.op, i.arguments) == parameter), "")
  return _bytes_used(computations, fused, name)


def _bytes_used(computations: Computations, fused: hlo.Computation, name: str) -> float:
  if name not in fused or fused[name].root:
    return math.inf
  total = 0.0
  for user in (i for i in fused.values() if name in i.operands):
    same_size = user.bytes == fused[name].bytes
    if user.op in ("dynamic-slice", "gather") and user.operands[0] == name:
      total += user.bytes
    elif user.op == "dynamic-update-slice" and user.operands[0] == name:
      continue  # written in place
    elif same_size and user.op in ("bitcast", "reshape", "copy"):
      total += _bytes_used(computations, fused, user.name)
    elif user.op == "fusion":  # fusions nest on TPUs
      inner = bytes_read(computations, user.called[0], user.operands.index(name))
      passed_on = same_size and math.isinf(inner)
      total += _bytes_used(computations, fused, user.name) if passed_on else inner
    else:
      return math.inf
  return total


def _bytes_written(
  fused: hlo.Computation, fusion: hlo.Instruction, aliases: dict[int, int]
) -> float:
  root = next((i for i in fused.values() if i.root), None)
  if root is None:
    return fusion.main_bytes
  names = root.operands if root.op == "tuple" else (root.name,)
  total = 0.0
  for index, name in enumerate(names):
    source = fused.get(name)
    if source is None or index in aliases:
      continue
    while source.op in ("bitcast", "copy") and source.operands[0] in fused:
      source = fused[source.operands[0]]
    if source.op == "dynamic-update-slice":
      total += fused[source.operands[1]].bytes if source.operands[1] in fused else 0
    else:
      total += source.bytes
  return min(total, fusion.main_bytes)
