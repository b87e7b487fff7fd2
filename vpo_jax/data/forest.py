"""The packed forest: a micro-batch in which shared tokens are computed once.

A group has a stem, the longest common prefix of its prompts, and rows of trees. A tree
is one example: its trunk is the rest of the prompt, its branches are the responses. The
shape of a micro-batch is set by token budgets rather than numbers of examples, so that
a few shapes serve the whole run. A stem that is shorter than the shape's is padded.

Shape letters of the package; L = stem + R * T.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.struct
import numpy as np
from jaxtyping import Float

from vpo_jax.data import examples as data_examples


@flax.struct.dataclass
class Forest:
  """One micro-batch, or several stacked along a leading axis.

  The arrays are int32 (`reference_GP`, `reward_GNE`: float32), with their shapes in
  their names. They have no annotations because JAX also fills the pytree with objects
  of its own.

  Attributes:
    tokens_GL: token ids of [stem | row 0 | row 1 | ...].
    positions_GL: depth of each token on its path from the root.
    stem_G: number of tokens in the stem; the rest of its positions are padding.
    tree_GRT: index of the token's tree in its group, from 1; 0 for padding.
    branch_GRT: 0 in a trunk, 1 or more in a branch.
    source_GP: index in L of the token whose output predicts.
    target_GP: the token to predict.
    leaf_GP: index of the response among the N * E of the group; N * E for padding.
    reference_GP: log-probability of that token under the frozen reference model, in
      nats; 0 if the loss needs none.
    tokens_GNE: number of tokens in each response; 0 if there is no example.
    reward_GNE: the reward of each response; 0 if the loss needs none.
  """

  tokens_GL: Any
  positions_GL: Any
  stem_G: Any
  tree_GRT: Any
  branch_GRT: Any
  source_GP: Any
  target_GP: Any
  leaf_GP: Any
  reference_GP: Any
  tokens_GNE: Any
  reward_GNE: Any


@dataclasses.dataclass(frozen=True)
class Shape:
  """The static sizes of all micro-batches of a step.

  Attributes:
    groups: G.
    stem: positions reserved for the stem.
    rows: R.
    row: T.
    trees: N.
    branches: E.
    predict: P.
  """

  groups: int
  stem: int
  rows: int
  row: int
  trees: int
  branches: int
  predict: int


# For each micro-batch, for each group: the rows, each a list of example indices.
Micro = list[list[list[int]]]

# A float32 value of each token of each response of each example.
TokenValues = Sequence[Sequence[np.ndarray]]


def tree_tokens(example: data_examples.Example, stem: int) -> int:
  """Positions that a tree takes; a response's last token is not an input."""
  branches = sum(len(response) - 1 for response in example.responses)
  return len(example.prompt) - stem + branches


def stem_tokens(
  examples: Sequence[data_examples.Example], rows: list[list[int]], room: int
) -> int:
  """Length of a group's stem: the common prefix of its examples, at most `room`."""
  members = [examples[index] for indices in rows for index in indices]
  return min(room, len(data_examples.common_stem(members))) if members else 0


def response_tokens(example: data_examples.Example) -> int:
  """Number of tokens that a tree predicts."""
  return sum(map(len, example.responses))


def predicted(
  examples: Sequence[data_examples.Example], rows: list[list[int]]
) -> list[tuple[int, int, slice]]:
  """Where a group's predicted tokens are: (example, branch, its part of P) in order."""
  found, start = [], 0
  for index in (index for indices in rows for index in indices):
    for branch, response in enumerate(examples[index].responses):
      found.append((index, branch, slice(start, start + len(response))))
      start += len(response)
  return found


def build(
  examples: Sequence[data_examples.Example],
  shape: Shape,
  micro: Micro,
  reference: TokenValues | None = None,
  reward_XE: Float[np.ndarray, "X E"] | None = None,
  groups: Sequence[int] | None = None,
) -> Forest:
  """Builds one micro-batch.

  Args:
    examples: of the whole run.
    shape: of the micro-batch.
    micro: indices of the examples in each row of each group.
    reference: reference log-probabilities of all tokens, in nats; None for zeros.
    reward_XE: rewards of all responses; None for zeros.
    groups: indices of the groups to build; None for all.
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
    reference_GP=np.zeros((s.groups, s.predict), np.float32),
    tokens_GNE=np.zeros((s.groups, s.trees, s.branches), np.int32),
    reward_GNE=np.zeros((s.groups, s.trees, s.branches), np.float32),
  )
  forest.positions_GL[:, : s.stem] = np.arange(s.stem)
  for group, rows in enumerate(micro[g] for g in groups):
    tree, count = 0, 0
    stem = forest.stem_G[group] = stem_tokens(examples, rows, s.stem)
    for row, indices in enumerate(rows):
      start = s.stem + row * s.row
      for index in indices:
        example = examples[index]
        forest.tokens_GL[group, :stem] = example.prompt[:stem]
        start = _write_tree(forest, s, group, start, tree, example, count)
        count += response_tokens(example)
        if reward_XE is not None:
          rewards = reward_XE[index]
          forest.reward_GNE[group, tree, : len(rewards)] = rewards
        tree += 1
    if reference is not None:
      for index, branch, span in predicted(examples, rows):
        forest.reference_GP[group, span] = reference[index][branch]
  return forest


def _write_tree(
  forest: Forest,
  shape: Shape,
  group: int,
  start: int,
  tree: int,
  example: data_examples.Example,
  predicted: int,
) -> int:
  """Writes a tree at `start` of the group's sequence; returns the index after it."""
  tree_L = forest.tree_GRT[group].reshape(-1)  # a view; starts after the stem
  branch_L = forest.branch_GRT[group].reshape(-1)

  def write(start: int, tokens: np.ndarray, depth: int, branch: int) -> int:
    end = start + len(tokens)
    forest.tokens_GL[group, start:end] = tokens
    forest.positions_GL[group, start:end] = depth + np.arange(len(tokens))
    tree_L[start - shape.stem : end - shape.stem] = tree + 1
    branch_L[start - shape.stem : end - shape.stem] = branch
    return end

  stem = int(forest.stem_G[group])
  end = write(start, example.prompt[stem:], stem, 0)
  fork = end - 1  # predicts the first token of every response
  for branch, response in enumerate(example.responses):
    first, end = end, write(end, response[:-1], len(example.prompt), branch + 1)
    span = slice(predicted, predicted + len(response))
    forest.source_GP[group, span] = [fork, *range(first, end)]
    forest.target_GP[group, span] = response
    forest.leaf_GP[group, span] = tree * shape.branches + branch
    forest.tokens_GNE[group, tree, branch] = len(response)
    predicted += len(response)
  return end
