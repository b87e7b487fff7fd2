"""Where each example of each batch goes: rows, micro-batches, and their few shapes."""

import dataclasses
import heapq
import math
from collections.abc import Callable, Sequence

import numpy as np

from vpo_jax import errors
from vpo_jax.data import examples as data_examples
from vpo_jax.data import families, forest

GRAIN = 32  # tokens: row lengths are multiples of this
WORTH = 0.005  # share of a run's arithmetic that one more shape to compile must save


@dataclasses.dataclass(frozen=True)
class Plan:
  """Where every example of every batch goes.

  Attributes:
    steps: the micro-batches of each batch.
    shapes: the shape of each batch's micro-batches; few are different.
    padding: share of row tokens that are padding, over the whole run.
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
  """Packs every batch into micro-batches of one shape.

  A batch takes the shape, of the few that are compiled, in which it costs the least
  arithmetic: batches hold the same number of examples, but not of tokens, and the
  difference would be padding.

  Args:
    examples: of the whole run; they set the families, and the room for a stem.
    batches: example indices of each batch.
    groups: data-parallel devices.
    budget: row tokens of one group in one micro-batch, at most.
    flops_per_token: of the model, given the number of keys a token is scored with.
    shapes: at most this many different ones; each is compiled once.

  Raises:
    UserError: an example is longer than the budget.
  """
  lengths, kinds = [0] * len(examples), [0] * len(examples)
  found = families.find(examples)
  for kind, family in enumerate(found):
    for index in family.members:
      lengths[index] = forest.tree_tokens(examples[index], family.stem)
      kinds[index] = kind
  longest = max(range(len(examples)), key=lambda index: lengths[index])
  if lengths[longest] > budget:
    raise errors.UserError(
      f"micro_tokens={budget} does not hold the longest example ({lengths[longest]}"
      f" tokens after the shared {found[kinds[longest]].stem})"
    )
  stem = max(family.stem for family in found)

  def parts(batch: Sequence[int]) -> list[list[int]]:
    """The batch's examples by family."""
    members = ([i for i in batch if kinds[i] == kind] for kind in range(len(found)))
    return [part for part in members if part]

  def cost(rows: int, row: int) -> float:
    """Arithmetic of a group's micro-batch."""
    return stem * flops_per_token(stem) + rows * row * flops_per_token(stem + row)

  sizes = _sizes(lengths, [*map(parts, batches[:64])], groups, budget, cost, shapes)
  placed: dict[tuple[int, int], list[list[forest.Micro]]] = {size: [] for size in sizes}
  steps, taken = [], []
  for batch in batches:
    most = max(lengths[i] for i in batch)
    options = [
      (size, _deal(_pack_all(lengths, parts(batch), size[1]), groups, size[0]))
      for size in sizes
      if size[1] >= most
    ]
    size, micros = min(options, key=lambda option: len(option[1]) * cost(*option[0]))
    placed[size].append(micros)
    steps.append(micros)
    taken.append(size)
  shape_of = {
    size: _shape(examples, stem, groups, size, steps)
    for size, steps in placed.items()
    if steps
  }
  used = sum(lengths[i] for batch in batches for i in batch)
  laid = sum(
    len(micros) * groups * rows * row
    for micros, (rows, row) in zip(steps, taken, strict=True)
  )
  return Plan(steps, [shape_of[size] for size in taken], padding=1 - used / laid)


def _sizes(
  lengths: Sequence[int],
  batches: Sequence[list[list[int]]],
  groups: int,
  budget: int,
  cost: Callable[[int, int], float],
  most: int,
) -> list[tuple[int, int]]:
  """The (rows, row) to compile: in turn, the one that saves most beside the others.

  The first one holds every example of the run; a batch without its longest examples
  may do better in shorter rows. A batch is its families' parts.
  """
  costs = {}
  longest = np.array([max(lengths[i] for part in b for i in part) for b in batches])
  low, all_fit = _up(int(longest.min()), GRAIN), _up(max(lengths), GRAIN)
  for row in range(low, max(budget, all_fit) + 1, GRAIN):
    counts = [
      [len(packed) for packed in _pack_all(lengths, batch, row)] if fits else [np.inf]
      for batch, fits in zip(batches, longest <= row, strict=True)
    ]
    for rows in range(1, max(1, budget // row) + 1):
      stems = np.array([np.sum(np.ceil(np.array(each) / rows)) for each in counts])
      costs[rows, row] = np.ceil(stems / groups) * cost(rows, row)
  sizes = []
  least = np.full(len(batches), np.inf)
  while len(sizes) < most:
    totals = {
      size: np.minimum(least, costs[size]).sum()
      for size in costs
      if sizes or size[1] >= all_fit
    }
    best = min(totals, key=lambda size: totals[size])
    if totals[best] > (1 - WORTH) * least.sum():
      break
    sizes.append(best)
    least = np.minimum(least, costs[best])
  return sizes


def _shape(
  examples: Sequence[data_examples.Example],
  stem: int,
  groups: int,
  size: tuple[int, int],
  steps: list[list[forest.Micro]],
) -> forest.Shape:
  """The shape that holds all micro-batches of `steps` in rows of `size`."""
  slots = [
    [index for indices in group for index in indices]
    for micros in steps
    for micro in micros
    for group in micro
  ]
  predicting = max(
    sum(forest.response_tokens(examples[i]) for i in slot) for slot in slots
  )
  return forest.Shape(
    groups=groups,
    stem=stem,
    rows=size[0],
    row=size[1],
    trees=max(len(slot) for slot in slots),
    branches=len(examples[0].responses),
    predict=_up(predicting, 8),
  )


def _up(size: int, multiple: int) -> int:
  return math.ceil(size / multiple) * multiple


def _pack(lengths: Sequence[int], batch: Sequence[int], row: int) -> list[list[int]]:
  """The fewest rows, longest tree first; ties keep the batch's order.

  Trees go to the row that has the least so far, which fills rows evenly; where that
  needs more rows than first-fit does, first-fit is taken. On 6,000 real queries, 8 or
  16 pairs a batch, it leaves half the padding of first-fit alone.
  """
  batch = sorted(batch, key=lambda i: -lengths[i])
  least = math.ceil(sum(lengths[i] for i in batch) / row)
  if rows := _even(lengths, batch, row, least):
    return rows
  first_fit = _first_fit(lengths, batch, row)
  for count in range(least + 1, len(first_fit) + 1):
    if rows := _even(lengths, batch, row, count):
      return rows
  return first_fit


def _even(
  lengths: Sequence[int], batch: Sequence[int], row: int, count: int
) -> list[list[int]] | None:
  """Each to the row that has the least; None where that is too much for one."""
  rows: list[list[int]] = [[] for _ in range(count)]
  loads = [(0, place) for place in range(count)]  # a heap
  for index in batch:
    load, place = loads[0]
    if load + lengths[index] > row:
      return None
    rows[place].append(index)
    heapq.heapreplace(loads, (load + lengths[index], place))
  return rows


def _first_fit(
  lengths: Sequence[int], batch: Sequence[int], row: int
) -> list[list[int]]:
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


def _deal(packed: list[list[list[int]]], groups: int, rows: int) -> list[forest.Micro]:
  """Rows to groups of micro-batches, each of one family; missing rows are empty."""
  shares = [math.ceil(len(family) / rows) for family in packed]
  micros = math.ceil(sum(shares) / groups)
  for _ in range(micros * groups - sum(shares)):  # of groups that would be empty
    fullest = max(range(len(packed)), key=lambda f: len(packed[f]) / shares[f])
    shares[fullest] += 1
  dealt = [
    family[place::share]
    for family, share in zip(packed, shares, strict=True)
    for place in range(share)
  ]
  dealt = [group + [[]] * (rows - len(group)) for group in dealt]
  return [dealt[micro * groups : (micro + 1) * groups] for micro in range(micros)]
