"""Examples that share a long prefix: a micro-batch holds those of one family.

One instruction makes one family. Where a file mixes several, one stem for all of them
would be the few tokens of the chat template.
"""

import collections
import dataclasses
from collections.abc import Sequence

from vpo_jax.data import examples as data_examples

SHARE = 0.25  # of the run's examples, at least: a batch pays a micro-batch for a family
LONGER = 32  # tokens that a family's stem must gain on what it shares with others


@dataclasses.dataclass(frozen=True)
class Family:
  """Example indices, in order, and the tokens that their prompts share."""

  members: list[int]
  stem: int


def find(examples: Sequence[data_examples.Example]) -> list[Family]:
  """Parts the examples by their prefixes; those in no large family are one together."""
  least = SHARE * len(examples)

  def shared(members: list[int]) -> int:
    return len(data_examples.common_stem([examples[i] for i in members]))

  def part(members: list[int], stem: int) -> list[Family]:
    heirs = collections.defaultdict(list)
    for index in members:
      heirs[int(examples[index].prompt[stem])].append(index)
    found, rest = [], []
    for heir in heirs.values():
      longer = shared(heir) if len(heir) >= least else 0
      if longer >= stem + LONGER:
        found += part(heir, longer)
      else:
        rest += heir
    if rest:
      found.append(Family(sorted(rest), shared(rest)))
    return found

  everything = list(range(len(examples)))
  return part(everything, shared(everything))
