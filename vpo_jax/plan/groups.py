"""Which devices take part together in a collective of a compiled program."""

import math
import re

import numpy as np

BOARD = 8  # devices that follow each other and share a node, where GPUs are meant


def members(text: str, devices: int) -> tuple[int, ...]:
  """Numbers of the first group's devices.

  Written {{0,1},{2,3}}, [2,4]<=[4,2]T(1,0), or mesh['a'=2,'b'=4] {'b'}, where 'b':(1)2
  is a part of an axis and device_ids=([4,2]T(1,0)) the mesh's order.

  Args:
    text: of the instruction, after its operands.
    devices: all of the program's, which take part where no group is named.
  """
  if found := re.search(r"replica_groups=mesh\[([^\]]*)\]([^{]*)\{([^}]*)\}", text):
    return _of_mesh(found[1], found[2], found[3], devices)
  if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=(\[[\d,]*\]\S*)", text):
    return tuple(_iota(found[3])[: int(found[2])].tolist())
  if found := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
    return tuple(map(int, found[1].split(",")))
  if found := re.search(r"source_target_pairs=\{(\{[\d,{}]*\})\}", text):
    pairs = [tuple(map(int, p.split(","))) for p in re.findall(r"\d+,\d+", found[1])]
    # The farthest: all wait for it.
    return max(pairs, key=lambda pair: (beside(pair) < 2, abs(pair[0] - pair[1])))
  return tuple(range(devices))


def beside(group: tuple[int, ...]) -> int:
  """How many of a group share a board with its first."""
  return sum(device // BOARD == group[0] // BOARD for device in group)


def _of_mesh(mesh: str, order: str, axes: str, devices: int) -> tuple[int, ...]:
  sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh)}
  taken = dict(re.findall(r"'(\w+)'(:\(\d+\)\d+)?", axes))
  shape, picked = [], []
  for name, size in sizes.items():
    before, part = 1, size if name in taken else 1
    if taken.get(name):
      before, part = map(int, re.findall(r"\d+", taken[name]))
    after = size // before // part
    shape += [before, part, after]
    picked += [0, slice(None), 0]
  ids = re.search(r"device_ids=\((.*?\))\)", order)
  numbers = _iota(ids[1]) if ids else np.arange(math.prod(sizes.values()))
  assert numbers.size == devices, (mesh, order, devices)
  return tuple(numbers.reshape(shape)[tuple(picked)].reshape(-1).tolist())


def _iota(text: str) -> np.ndarray:
  """[4,2]T(1,0): the numbers in this shape, transposed, in a row."""
  sizes, _, turned = text.partition("T")
  numbers = np.arange(math.prod(_numbers(sizes))).reshape(_numbers(sizes))
  return numbers.transpose(_numbers(turned) or None).reshape(-1)


def _numbers(text: str) -> list[int]:
  return [int(number) for number in re.findall(r"\d+", text)]
