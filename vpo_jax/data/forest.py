"""The packed forest: a micro-batch that holds each shared token once.

A group is a stem (the longest prefix that its prompts share) and rows of trees; a tree
is one example: its trunk (the rest of the prompt) and its branches (the responses).
Token budgets set the shape, not example counts, so a few shapes serve a whole run: a
stem that is shorter than its room leaves the rest of it empty.

Shape letters: G groups (one a data-parallel device), S room for a stem, R rows,
T tokens of a row, L = S + R * T, P positions that predict, N trees, E branches of one.
"""

import dataclasses
from collections.abc import Sequence

import flax.struct
import jax
import numpy as np
from jaxtyping import Float, Int

from vpo_jax.data import examples as data_examples

_Array = np.ndarray | jax.Array  # on the host, or on devices


@flax.struct.dataclass
class Forest:
  """One micro-batch, or several stacked along a leading axis.

  Attributes:
    tokens_GL, positions_GL: [stem | row 0 | row 1 | ...]; a position is a depth.
    stem_G: tokens of the stem; the rest of its room is padding.
    tree_GRT: the token's tree in its row, from 1; 0 is padding.
    branch_GRT: 0 in a trunk, 1.. in a branch.
    source_GP: where in L the prediction is made.
    target_GP: the token it is about.
    leaf_GP: which of the N * E responses it belongs to; N * E for padding.
    tokens_GNE: response tokens of each leaf; 0 where there is no example.
    reference_GNE: log-probability under the frozen reference, in nats (DPO).
  """

  tokens_GL: Int[_Array, "*micro G L"]
  positions_GL: Int[_Array, "*micro G L"]
  stem_G: Int[_Array, "*micro G"]
  tree_GRT: Int[_Array, "*micro G R T"]
  branch_GRT: Int[_Array, "*micro G R T"]
  source_GP: Int[_Array, "*micro G P"]
  target_GP: Int[_Array, "*micro G P"]
  leaf_GP: Int[_Array, "*micro G P"]
  tokens_GNE: Int[_Array, "*micro G N E"]
  reference_GNE: Float[_Array, "*micro G N E"]


@dataclasses.dataclass(frozen=True)
class Shape:
  """The static sizes of all micro-batches of a step."""

  groups: int
  stem: int
  rows: int
  row: int
  trees: int
  branches: int
  predict: int


# For each micro-batch, for each group: the rows, each a list of example indices.
Micro = list[list[list[int]]]


def tree_tokens(example: data_examples.Example, stem: int) -> int:
  """Tokens a tree takes; a response's last token is predicted, never fed."""
  branches = sum(len(response) - 1 for response in example.responses)
  return len(example.prompt) - stem + branches


def stem_tokens(
  examples: Sequence[data_examples.Example], rows: list[list[int]], room: int
) -> int:
  """Tokens of a group's stem: what its examples share, as far as there is room."""
  members = [examples[index] for indices in rows for index in indices]
  return min(room, len(data_examples.common_stem(members))) if members else 0


def response_tokens(example: data_examples.Example) -> int:
  """Tokens that a tree predicts."""
  return sum(map(len, example.responses))


def build(
  examples: Sequence[data_examples.Example],
  shape: Shape,
  micro: Micro,
  reference_XE: Float[np.ndarray, "X E"] | None = None,
  groups: Sequence[int] | None = None,
) -> Forest:
  """Lays out one micro-batch.

  Args:
    groups: which of its groups; None is all of them.
    reference_XE: reference log-probabilities of all examples, by index; None is 0.
  """
  groups = range(shape.groups) if groups is None else groups
  s = dataclasses.replace(shape, groups=len(groups))
  leaves = s.trees * s.branches
  forest = Forest(
    tokens_GL=np.zeros((s.groups, s.stem + s.rows * s.row), np.int32),
    positions_GL=np.zeros((s.groups, s.stem + s.rows * s.row), np.int32),
    stem_G=np.zeros(s.groups, np.int32),
    tree_GRT=np.zeros((s.groups, s.rows, s.row), np.int32),
    branch_GRT=np.zeros((s.groups, s.rows, s.row), np.int32),
    source_GP=np.zeros((s.groups, s.predict), np.int32),
    target_GP=np.zeros((s.groups, s.predict), np.int32),
    leaf_GP=np.full((s.groups, s.predict), leaves, np.int32),
    tokens_GNE=np.zeros((s.groups, s.trees, s.branches), np.int32),
    reference_GNE=np.zeros((s.groups, s.trees, s.branches), np.float32),
  )
  forest.positions_GL[:, : s.stem] = np.arange(s.stem)
  for group, rows in enumerate(micro[g] for g in groups):
    tree, predicted = 0, 0
    stem = forest.stem_G[group] = stem_tokens(examples, rows, s.stem)
    for row, indices in enumerate(rows):
      start = s.stem + row * s.row
      for index in indices:
        example = examples[index]
        forest.tokens_GL[group, :stem] = example.prompt[:stem]
        start = _plant(forest, s, group, start, tree, example, predicted)
        predicted += response_tokens(example)
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

  stem = int(forest.stem_G[group])
  end = put(start, example.prompt[stem:], stem, 0)
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
