"""Where each example of each batch goes: rows, micro-batches, and their few shapes."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from vpo_jax import errors
from vpo_jax.data import examples as data_examples
from vpo_jax.data import forest

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
  head_chunk: int = 512,
) -> Plan:
  """Packs every batch into micro-batches of one shape.

  A batch takes the shape, of the few that are compiled, in which it costs the least
  arithmetic: batches hold the same number of examples, but not of tokens, and the
  difference would be padding.

  Args:
    examples: of the whole run; they set the stem.
    batches: example indices of each batch.
    groups: data-parallel devices.
    budget: row tokens of one group in one micro-batch, at most.
    flops_per_token: of the model, given the number of keys a token is scored with.
    shapes: at most this many different ones; each is compiled once.
    head_chunk: positions whose logits live at once, about.

  Raises:
    UserError: an example is longer than the budget.
  """
  stem = len(data_examples.common_stem(examples))
  lengths = [forest.tree_tokens(example, stem) for example in examples]
  longest = max(lengths)
  if longest > budget:
    raise errors.UserError(
      f"micro_tokens={budget} does not hold the longest example ({longest} tokens"
      f" after the shared {stem})"
    )

  def cost(rows: int, row: int) -> float:
    """Arithmetic of a group's micro-batch."""
    return stem * flops_per_token(stem) + rows * row * flops_per_token(stem + row)

  sizes = _sizes(lengths, batches[:64], groups, budget, cost, shapes)
  placed: dict[tuple[int, int], list[list[forest.Micro]]] = {size: [] for size in sizes}
  steps, taken = [], []
  for batch in batches:
    most = max(lengths[i] for i in batch)
    options = [
      (size, _deal(_pack(lengths, batch, size[1]), groups, size[0]))
      for size in sizes
      if size[1] >= most
    ]
    size, micros = min(options, key=lambda option: len(option[1]) * cost(*option[0]))
    placed[size].append(micros)
    steps.append(micros)
    taken.append(size)
  found = {
    size: _shape(examples, stem, groups, size, steps, head_chunk)
    for size, steps in placed.items()
    if steps
  }
  used = sum(lengths[i] for batch in batches for i in batch)
  laid = sum(
    len(micros) * groups * rows * row
    for micros, (rows, row) in zip(steps, taken, strict=True)
  )
  return Plan(steps, [found[size] for size in taken], padding=1 - used / laid)


def _sizes(
  lengths: Sequence[int],
  batches: Sequence[Sequence[int]],
  groups: int,
  budget: int,
  cost: Callable[[int, int], float],
  most: int,
) -> list[tuple[int, int]]:
  """The (rows, row) to compile: in turn, the one that saves most beside the others.

  The first one holds every example of the run; a batch without its longest examples
  may do better in shorter rows.
  """
  costs = {}
  longest = np.array([max(lengths[i] for i in batch) for batch in batches])
  low, all_fit = _up(int(longest.min()), GRAIN), _up(max(lengths), GRAIN)
  for row in range(low, max(budget, all_fit) + 1, GRAIN):
    counts = np.array(
      [
        len(_pack(lengths, batch, row)) if fits else np.inf
        for batch, fits in zip(batches, longest <= row, strict=True)
      ]
    )
    for rows in range(1, max(1, budget // row) + 1):
      costs[rows, row] = np.ceil(counts / (groups * rows)) * cost(rows, row)
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
  head_chunk: int,
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
  chunks = math.ceil(predicting / head_chunk)
  chunk = _up(math.ceil(predicting / chunks), 8)
  return forest.Shape(
    groups=groups,
    stem=stem,
    rows=size[0],
    row=size[1],
    trees=max(len(slot) for slot in slots),
    branches=len(examples[0].responses),
    predict=chunks * chunk,
    chunk=chunk,
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
  first_fit = _first_fit(lengths, batch, row)
  least = math.ceil(sum(lengths[i] for i in batch) / row)
  for count in range(least, len(first_fit) + 1):
    rows: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for index in batch:
      lightest = loads.index(min(loads))
      rows[lightest].append(index)
      loads[lightest] += lengths[index]
    if max(loads) <= row:
      return rows
  return first_fit


def _first_fit(
  lengths: Sequence[int], batch: Sequence[int], row: int
) -> list[list[int]]:
  rows: list[list[int]] = []
  room: list[int] = []
  for index in batch:
    fits = next((r for r, free in enumerate(room) if free >= lengths[index]), None)
    if fits is None:
      rows.append([index])
      room.append(row - lengths[index])
    else:
      rows[fits].append(index)
      room[fits] -= lengths[index]
  return rows


def _deal(packed: list[list[int]], groups: int, rows: int) -> list[forest.Micro]:
  """Rows to micro-batches and round the groups; missing rows are empty."""
  micros = []
  for start in range(0, len(packed), groups * rows):
    part = packed[start : start + groups * rows]
    part += [[]] * (groups * rows - len(part))
    micros.append([part[group::groups] for group in range(groups)])
  return micros
