"""Parses the device groups of collectives in HLO text."""

import math
import re

import numpy as np

GPUS_PER_NODE = 8  # devices with consecutive numbers share a node


def members(text: str, devices: int) -> tuple[int, ...]:
  """Device numbers of a collective's first group.

  Three notations: {{0,1},{2,3}}; [2,4]<=[4,2]T(1,0); and mesh['a'=2,'b'=4] {'b'}, where
  'b':(1)2 is a sub-axis and device_ids=([4,2]T(1,0)) the order of the mesh.

  Args:
    text: the instruction's attributes.
    devices: number of devices of the program; all take part if no group is given.
  """
  if found := re.search(r"replica_groups=mesh\[([^\]]*)\]([^{]*)\{([^}]*)\}", text):
    return _of_mesh(found[1], found[2], found[3], devices)
  if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=(\[[\d,]*\]\S*)", text):
    return tuple(_iota(found[3])[: int(found[2])].tolist())
  if found := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
    return tuple(map(int, found[1].split(",")))
  if found := re.search(r"source_target_pairs=\{(\{[\d,{}]*\})\}", text):
    pairs = [tuple(map(int, p.split(","))) for p in re.findall(r"\d+,\d+", found[1])]
    # The slowest transfer determines the time: between nodes, then the most distant.
    return max(pairs, key=lambda pair: (per_node(pair) < 2, abs(pair[0] - pair[1])))
  return tuple(range(devices))


def per_node(group: tuple[int, ...]) -> int:
  """How many devices of a group are in the node of its first device."""
  node = group[0] // GPUS_PER_NODE
  return sum(device // GPUS_PER_NODE == node for device in group)


def _of_mesh(mesh: str, order: str, axes: str, devices: int) -> tuple[int, ...]:
  sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh)}
  group_axes = dict(re.findall(r"'(\w+)'(:\(\d+\)\d+)?", axes))
  shape, index = [], []
  for name, size in sizes.items():
    before, part = 1, size if name in group_axes else 1
    if group_axes.get(name):
      before, part = map(int, re.findall(r"\d+", group_axes[name]))
    after = size // before // part
    shape += [before, part, after]
    index += [0, slice(None), 0]
  ids = re.search(r"device_ids=\((.*?\))\)", order)
  numbers = _iota(ids[1]) if ids else np.arange(math.prod(sizes.values()))
  assert numbers.size == devices, (mesh, order, devices)
  return tuple(numbers.reshape(shape)[tuple(index)].reshape(-1).tolist())


def _iota(text: str) -> np.ndarray:
  """Evaluates "[4,2]T(1,0)": an iota of that shape, transposed and flattened."""
  sizes, _, permutation = text.partition("T")
  numbers = np.arange(math.prod(_numbers(sizes))).reshape(_numbers(sizes))
  return numbers.transpose(_numbers(permutation) or None).reshape(-1)


def _numbers(text: str) -> list[int]:
  return [int(number) for number in re.findall(r"\d+", text)]
