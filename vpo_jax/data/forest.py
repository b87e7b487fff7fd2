"""The packed forest: a micro-batch that holds each shared token once.

A group is a stem (what all prompts share) and rows of trees; a tree is one example: its
trunk (the rest of the prompt) and its branches (the responses). Token budgets set the
shape, not example counts, so a few shapes serve a whole run.

Shape letters: G groups (one a data-parallel device), S stem, R rows, T tokens of a
row, L = S + R * T, P positions that predict, N trees, E branches of a tree.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import flax.struct
import numpy as np
from jaxtyping import Float, Int

from vpo_jax import errors
from vpo_jax.data import examples as data_examples

GRAIN = 32  # tokens: row lengths are multiples of this
WORTH = 0.01  # share of a run's arithmetic that one more shape to compile must save


@flax.struct.dataclass
class Forest:
  """One micro-batch, or several stacked along a leading axis.

  Attributes:
    tokens_GL, positions_GL: [stem | row 0 | row 1 | ...]; a position is a depth.
    tree_GRT: the token's tree in its row, from 1; 0 is padding.
    branch_GRT: 0 in a trunk, 1.. in a branch.
    source_GP: where in L the prediction is made.
    target_GP: the token it is about.
    leaf_GP: which of the N * E responses it belongs to; N * E for padding.
    tokens_GNE: response tokens of each leaf; 0 where there is no example.
    reference_GNE: log-probability under the frozen reference, in nats (DPO).
  """

  tokens_GL: Int[np.ndarray, "G L"]
  positions_GL: Int[np.ndarray, "G L"]
  tree_GRT: Int[np.ndarray, "G R T"]
  branch_GRT: Int[np.ndarray, "G R T"]
  source_GP: Int[np.ndarray, "G P"]
  target_GP: Int[np.ndarray, "G P"]
  leaf_GP: Int[np.ndarray, "G P"]
  tokens_GNE: Int[np.ndarray, "G N E"]
  reference_GNE: Float[np.ndarray, "G N E"]


@dataclasses.dataclass(frozen=True)
class Shape:
  """The static sizes of all micro-batches of a step; `chunk` divides `predict`."""

  groups: int
  stem: int
  rows: int
  row: int
  trees: int
  branches: int
  predict: int
  chunk: int


# For each micro-batch, for each group: the rows, each a list of example indices.
Micro = list[list[list[int]]]


@dataclasses.dataclass(frozen=True)
class Plan:
  """Where every example of every batch goes.

  Attributes:
    steps: the micro-batches of each batch.
    shapes: the shape of each batch's micro-batches; few are different.
    padding: share of row tokens that are padding, over the whole run.
  """

  steps: list[list[Micro]]
  shapes: list[Shape]
  padding: float


def tree_tokens(example: data_examples.Example, stem: int) -> int:
  """Tokens a tree takes; a response's last token is predicted, never fed."""
  branches = sum(len(response) - 1 for response in example.responses)
  return len(example.prompt) - stem + branches


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

  Rows are filled first-fit, longest tree first. A batch takes the shape, of the few
  that are compiled, in which it costs the least arithmetic: batches hold the same
  number of examples, but not of tokens, and the difference would be padding.

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
  lengths = [tree_tokens(example, stem) for example in examples]
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
  placed: dict[tuple[int, int], list[list[Micro]]] = {size: [] for size in sizes}
  steps, taken = [], []
  for batch in batches:
    options = [
      (size, _deal(_pack(lengths, batch, size[1]), groups, size[0])) for size in sizes
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
  """The (rows, row) to compile: in turn, the one that saves most beside the others."""
  costs = {}
  low = _up(max(lengths), GRAIN)
  for row in range(low, max(budget, low) + 1, GRAIN):
    counts = np.array([len(_pack(lengths, batch, row)) for batch in batches])
    for rows in range(1, max(1, budget // row) + 1):
      costs[rows, row] = np.ceil(counts / (groups * rows)) * cost(rows, row)
  sizes = []
  least = np.full(len(batches), np.inf)
  while len(sizes) < most:
    totals = {size: np.minimum(least, costs[size]).sum() for size in costs}
    best = min(costs, key=lambda size: totals[size])
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
  steps: list[list[Micro]],
  head_chunk: int,
) -> Shape:
  """The shape that holds all micro-batches of `steps` in rows of `size`."""
  slots = [
    [index for indices in group for index in indices]
    for micros in steps
    for micro in micros
    for group in micro
  ]
  predicting = max(sum(_responses(examples[i]) for i in slot) for slot in slots)
  chunks = math.ceil(predicting / head_chunk)
  chunk = _up(math.ceil(predicting / chunks), 8)
  return Shape(
    groups=groups,
    stem=stem,
    rows=size[0],
    row=size[1],
    trees=max(len(slot) for slot in slots),
    branches=len(examples[0].responses),
    predict=chunks * chunk,
    chunk=chunk,
  )


def _responses(example: data_examples.Example) -> int:
  return sum(map(len, example.responses))


def _up(size: int, multiple: int) -> int:
  return math.ceil(size / multiple) * multiple


def _pack(lengths: Sequence[int], batch: Sequence[int], row: int) -> list[list[int]]:
  """First-fit decreasing; ties keep the batch's order."""
  rows: list[list[int]] = []
  room: list[int] = []
  for index in sorted(batch, key=lambda i: -lengths[i]):
    fits = next((r for r, free in enumerate(room) if free >= lengths[index]), None)
    if fits is None:
      rows.append([index])
      room.append(row - lengths[index])
    else:
      rows[fits].append(index)
      room[fits] -= lengths[index]
  return rows


def _deal(packed: list[list[int]], groups: int, rows: int) -> list[Micro]:
  """Rows to micro-batches and round the groups; missing rows are empty."""
  micros = []
  for start in range(0, len(packed), groups * rows):
    part = packed[start : start + groups * rows]
    part += [[]] * (groups * rows - len(part))
    micros.append([part[group::groups] for group in range(groups)])
  return micros


def build(
  examples: Sequence[data_examples.Example],
  shape: Shape,
  micro: Micro,
  reference_XE: Float[np.ndarray, "X E"] | None = None,
) -> Forest:
  """Lays out one micro-batch.

  Args:
    reference_XE: reference log-probabilities of all examples, by index; None is 0.
  """
  s = shape
  leaves = s.trees * s.branches
  forest = Forest(
    tokens_GL=np.zeros((s.groups, s.stem + s.rows * s.row), np.int32),
    positions_GL=np.zeros((s.groups, s.stem + s.rows * s.row), np.int32),
    tree_GRT=np.zeros((s.groups, s.rows, s.row), np.int32),
    branch_GRT=np.zeros((s.groups, s.rows, s.row), np.int32),
    source_GP=np.zeros((s.groups, s.predict), np.int32),
    target_GP=np.zeros((s.groups, s.predict), np.int32),
    leaf_GP=np.full((s.groups, s.predict), leaves, np.int32),
    tokens_GNE=np.zeros((s.groups, s.trees, s.branches), np.int32),
    reference_GNE=np.zeros((s.groups, s.trees, s.branches), np.float32),
  )
  forest.tokens_GL[:, : s.stem] = examples[0].prompt[: s.stem]
  forest.positions_GL[:, : s.stem] = np.arange(s.stem)
  for group, rows in enumerate(micro):
    tree, predicted = 0, 0
    for row, indices in enumerate(rows):
      start = s.stem + row * s.row
      for index in indices:
        example = examples[index]
        start = _plant(forest, s, group, start, tree, example, predicted)
        predicted += _responses(example)
        if reference_XE is not None:
          forest.reference_GNE[group, tree] = reference_XE[index]
        tree += 1
  return forest


def _plant(
  forest: Forest,
  shape: Shape,
  group: int,
  start: int,
  tree: int,
  example: data_examples.Example,
  predicted: int,
) -> int:
  """Writes one tree at `start` of the group's sequence; returns where it ends."""
  tree_L = forest.tree_GRT[group].reshape(-1)  # a view: rows only, without the stem
  branch_L = forest.branch_GRT[group].reshape(-1)

  def put(start: int, tokens: np.ndarray, depth: int, branch: int) -> int:
    end = start + len(tokens)
    forest.tokens_GL[group, start:end] = tokens
    forest.positions_GL[group, start:end] = depth + np.arange(len(tokens))
    tree_L[start - shape.stem : end - shape.stem] = tree + 1
    branch_L[start - shape.stem : end - shape.stem] = branch
    return end

  trunk = example.prompt[shape.stem :]
  end = put(start, trunk, shape.stem, 0)
  fork = end - 1  # every response's first token is predicted here
  for branch, response in enumerate(example.responses):
    first, end = end, put(end, response[:-1], len(example.prompt), branch + 1)
    span = slice(predicted, predicted + len(response))
    forest.source_GP[group, span] = [fork, *range(first, end)]
    forest.target_GP[group, span] = response
    forest.leaf_GP[group, span] = tree * shape.branches + branch
    forest.tokens_GNE[group, tree, branch] = len(response)
    predicted += len(response)
  return end
