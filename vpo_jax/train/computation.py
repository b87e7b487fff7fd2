"""How much a step computes, padding apart: what its rates are made of."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vpo_jax.data import examples as data_examples
from vpo_jax.data import forest
from vpo_jax.decoder import config as decoder_config


@dataclasses.dataclass(frozen=True)
class Computation:
  """One step's share.

  Attributes:
    useful_tokens: the forest's tokens, stems once a group; no padding.
    plain_tokens: the tokens of plain rows, each response behind its whole prompt.
    flops: multiply-adds x 2, forward and backward, of the useful tokens and of the
      vocabulary product; recomputation (remat, the head's logits) is not counted.
  """

  useful_tokens: int
  plain_tokens: int
  flops: float

  def rates(self, seconds: float) -> dict[str, float]:
    return {
      "useful_tokens_per_second": self.useful_tokens / seconds,
      "plain_tokens_per_second": self.plain_tokens / seconds,
      "model_flops_per_second": self.flops / seconds,
    }


def of_step(
  examples: Sequence[data_examples.Example],
  room: int,
  micros: Sequence[forest.Micro],
  config: decoder_config.DecoderConfig,
) -> Computation:
  """What the micro-batches of one step compute.

  Args:
    room: of the shape, for the longest stem.
  """
  useful, plain, flops = 0, 0, 0.0
  for rows in (rows for micro in micros for rows in micro):
    stem = forest.stem_tokens(examples, rows, room)  # computed once by its group
    useful += stem
    flops += stem * config.flops_per_token(stem / 2)
    for example in (examples[index] for indices in rows for index in indices):
      tokens = forest.tree_tokens(example, stem)
      predicted = [len(response) for response in example.responses]
      path = len(example.prompt) - stem + float(np.mean(predicted))
      useful += tokens
      plain += sum(len(example.prompt) + count for count in predicted)
      flops += tokens * config.flops_per_token(stem + path / 2)
      flops += sum(predicted) * 2 * config.d_model * config.vocab
  return Computation(useful, plain, 3 * flops)  # the backward pass is twice the forward
