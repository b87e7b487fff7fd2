"""Packs the examples of each batch into rows and micro-batches of a few shapes."""

import dataclasses
import heapq
import math
from collections.abc import Callable, Sequence

import numpy as np

from vpo_jax import errors
from vpo_jax.data import examples as data_examples
from vpo_jax.data import families, forest

ROW_MULTIPLE = 32  # row lengths are multiples of this many tokens
MIN_SAVING = 0.005  # share of the run's FLOPs that another compiled shape must save
SAMPLED_BATCHES = 64  # the first batches, on which the shapes are chosen


@dataclasses.dataclass(frozen=True)
class Plan:
  """The layout of every batch.

  Attributes:
    steps: the micro-batches of each batch.
    shapes: the shape of each batch's micro-batches; only a few are distinct.
    padding: share of all row positions in the run that are padding.
  """

  steps: list[list[forest.Micro]]
  shapes: list[forest.Shape]
  padding: float


def plan(
  examples: Sequence[data_examples.Example],
  batches: Sequence[Sequence[int]],
  *,
  groups: int,
  budget: int,
  flops_per_token: Callable[[float], float],
  shapes: int = 1,
) -> Plan:
  """Packs each batch into micro-batches of the compiled shape with the fewest FLOPs.

  Batches have the same number of examples but different numbers of tokens, so that a
  single shape for all would need more padding.

  Args:
    examples: of the whole run; they determine the families and the stem's size.
    batches: example indices of each batch.
    groups: number of data-parallel devices.
    budget: maximum row positions of a group in a micro-batch.
    flops_per_token: FLOPs of the model for a token, given the number of its keys.
    shapes: maximum number of distinct shapes; each is compiled once.

  Raises:
    UserError: an example is longer than the budget.
  """
  lengths, family_of = [0] * len(examples), [0] * len(examples)
  found = families.find(examples)
  for number, family in enumerate(found):
    for index in family.members:
      lengths[index] = forest.tree_tokens(examples[index], family.stem)
      family_of[index] = number
  longest = max(range(len(examples)), key=lambda index: lengths[index])
  if lengths[longest] > budget:
    raise errors.UserError(
      f"config.micro_tokens={budget}: the longest example has {lengths[longest]} tokens"
      f" after the shared {found[family_of[longest]].stem}; raise micro_tokens"
    )
  stem = max(family.stem for family in found)

  def parts(batch: Sequence[int]) -> list[list[int]]:
    """The batch's examples by family."""
    members = ([i for i in batch if family_of[i] == f] for f in range(len(found)))
    return [part for part in members if part]

  def cost(rows: int, row: int) -> float:
    """FLOPs of a group in a micro-batch."""
    return stem * flops_per_token(stem) + rows * row * flops_per_token(stem + row)

  sizes = _sizes(
    lengths, [*map(parts, batches[:SAMPLED_BATCHES])], groups, budget, cost, shapes
  )
  steps_by_size: dict[tuple[int, int], list[list[forest.Micro]]] = {
    size: [] for size in sizes
  }
  steps, chosen = [], []
  for batch in batches:
    longest_tree = max(lengths[i] for i in batch)
    options = [
      (size, _to_groups(_pack_all(lengths, parts(batch), size[1]), groups, size[0]))
      for size in sizes
      if size[1] >= longest_tree
    ]
    size, micros = min(options, key=lambda option: len(option[1]) * cost(*option[0]))
    steps_by_size[size].append(micros)
    steps.append(micros)
    chosen.append(size)
  shape_of = {
    size: _shape(examples, stem, groups, size, steps)
    for size, steps in steps_by_size.items()
    if steps
  }
  used = sum(lengths[i] for batch in batches for i in batch)
  available = sum(
    len(micros) * groups * rows * row
    for micros, (rows, row) in zip(steps, chosen, strict=True)
  )
  return Plan(steps, [shape_of[size] for size in chosen], padding=1 - used / available)


def _sizes(
  lengths: Sequence[int],
  batches: Sequence[list[list[int]]],
  groups: int,
  budget: int,
  cost: Callable[[int, int], float],
  most: int,
) -> list[tuple[int, int]]:
  """The (rows, row) sizes to compile, chosen greedily by the FLOPs they save.

  The first fits every example of the run. A batch without the longest examples may need
  fewer FLOPs in shorter rows.

  Args:
    lengths: positions of each example's tree.
    batches: the examples of each batch, by family.
    groups: number of data-parallel devices.
    budget: maximum row positions of a group.
    cost: FLOPs of a group with (rows, row).
    most: maximum number of sizes.
  """
  costs = {}
  longest = np.array([max(lengths[i] for part in b for i in part) for b in batches])
  low = _round_up(int(longest.min()), ROW_MULTIPLE)
  all_fit = _round_up(max(lengths), ROW_MULTIPLE)
  for row in range(low, max(budget, all_fit) + 1, ROW_MULTIPLE):
    counts = [
      [len(packed) for packed in _pack_all(lengths, batch, row)] if fits else [np.inf]
      for batch, fits in zip(batches, longest <= row, strict=True)
    ]
    for rows in range(1, max(1, budget // row) + 1):
      stems = np.array([np.sum(np.ceil(np.array(each) / rows)) for each in counts])
      costs[rows, row] = np.ceil(stems / groups) * cost(rows, row)
  sizes = []
  lowest = np.full(len(batches), np.inf)
  while len(sizes) < most:
    totals = {
      size: np.minimum(lowest, costs[size]).sum()
      for size in costs
      if sizes or size[1] >= all_fit
    }
    best = min(totals, key=lambda size: totals[size])
    if totals[best] > (1 - MIN_SAVING) * lowest.sum():
      break
    sizes.append(best)
    lowest = np.minimum(lowest, costs[best])
  return sizes


def _shape(
  examples: Sequence[data_examples.Example],
  stem: int,
  groups: int,
  size: tuple[int, int],
  steps: list[list[forest.Micro]],
) -> forest.Shape:
  """The smallest shape for all micro-batches of `steps`, whose rows have `size`."""
  members_of_groups = [
    [index for indices in group for index in indices]
    for micros in steps
    for micro in micros
    for group in micro
  ]
  predicted = max(
    sum(forest.response_tokens(examples[i]) for i in members)
    for members in members_of_groups
  )
  return forest.Shape(
    groups=groups,
    stem=stem,
    rows=size[0],
    row=size[1],
    trees=max(map(len, members_of_groups)),
    branches=max(len(example.responses) for example in examples),
    predict=_round_up(predicted, 8),
  )


def _round_up(size: int, multiple: int) -> int:
  return math.ceil(size / multiple) * multiple


def _pack(lengths: Sequence[int], batch: Sequence[int], row: int) -> list[list[int]]:
  """Packs the trees of a batch into rows, longest first; ties keep the batch's order.

  Each tree goes to the emptiest row, which fills rows evenly. If that needs more rows
  than first-fit, the result is first-fit's. For 6,000 real queries in batches of 8 or
  16 pairs, this halves the padding of first-fit alone.
  """
  batch = sorted(batch, key=lambda i: -lengths[i])
  fewest = math.ceil(sum(lengths[i] for i in batch) / row)
  if rows := _even(lengths, batch, row, fewest):
    return rows
  first_fit = _first_fit(lengths, batch, row)
  for count in range(fewest + 1, len(first_fit) + 1):
    if rows := _even(lengths, batch, row, count):
      return rows
  return first_fit


def _even(
  lengths: Sequence[int], batch: Sequence[int], row: int, count: int
) -> list[list[int]] | None:
  """Puts each tree into the emptiest of `count` rows; None if one does not fit."""
  rows: list[list[int]] = [[] for _ in range(count)]
  loads = [(0, number) for number in range(count)]  # a heap
  for index in batch:
    load, number = loads[0]
    if load + lengths[index] > row:
      return None
    rows[number].append(index)
    heapq.heapreplace(loads, (load + lengths[index], number))
  return rows


def _first_fit(
  lengths: Sequence[int], batch: Sequence[int], row: int
) -> list[list[int]]:
  """Puts each tree into the first row with room for it."""
  rows: list[list[int]] = [[] for _ in batch]
  room = np.full(len(batch), row)
  for index in batch:
    first = int(np.argmax(room >= lengths[index]))
    rows[first].append(index)
    room[first] -= lengths[index]
  return [members for members in rows if members]


def _pack_all(
  lengths: Sequence[int], parts: list[list[int]], row: int
) -> list[list[list[int]]]:
  """The rows of each family's part of a batch."""
  return [_pack(lengths, part, row) for part in parts]


def _to_groups(
  packed: list[list[list[int]]], groups: int, rows: int
) -> list[forest.Micro]:
  """Distributes rows to the groups of micro-batches; a group has rows of one family.

  Args:
    packed: the rows of each family.
    groups: groups of a micro-batch.
    rows: rows of a group; those that are left over are empty.
  """
  shares = [math.ceil(len(family) / rows) for family in packed]
  micros = math.ceil(sum(shares) / groups)
  for _ in range(micros * groups - sum(shares)):  # spread over groups that are left
    fullest = max(range(len(packed)), key=lambda f: len(packed[f]) / shares[f])
    shares[fullest] += 1
  assigned = [
    family[start::share]
    for family, share in zip(packed, shares, strict=True)
    for start in range(share)
  ]
  assigned = [group + [[]] * (rows - len(group)) for group in assigned]
  return [assigned[micro * groups : (micro + 1) * groups] for micro in range(micros)]
