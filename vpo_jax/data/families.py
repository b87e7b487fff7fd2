"""Groups examples into families that share a long prompt prefix.

Examples with the same instruction are a family. If a file mixes instructions, the only
prefix common to all examples is the few tokens of the chat template; the examples of a
group in a micro-batch are therefore taken from one family.
"""

import collections
import dataclasses
from collections.abc import Sequence

from vpo_jax.data import examples as data_examples

# Each family of a batch needs micro-batches of its own, so families must be large.
MIN_SHARE = 0.25  # of the run's examples
MIN_GAIN = 32  # tokens by which a family's prefix is longer than that of its parent


@dataclasses.dataclass(frozen=True)
class Family:
  """Example indices, ascending, and the length of their common prompt prefix."""

  members: list[int]
  stem: int


def find(examples: Sequence[data_examples.Example]) -> list[Family]:
  """Splits examples into families; those outside large families form one family."""
  min_size = MIN_SHARE * len(examples)

  def stem_length(members: list[int]) -> int:
    return len(data_examples.common_stem([examples[i] for i in members]))

  def split(members: list[int], stem: int) -> list[Family]:
    children = collections.defaultdict(list)
    for index in members:
      children[int(examples[index].prompt[stem])].append(index)
    found, rest = [], []
    for child in children.values():
      longer = stem_length(child) if len(child) >= min_size else 0
      if longer >= stem + MIN_GAIN:
        found += split(child, longer)
      else:
        rest += child
    if rest:
      found.append(Family(sorted(rest), stem_length(rest)))
    return found

  indices = list(range(len(examples)))
  return split(indices, stem_length(indices))
