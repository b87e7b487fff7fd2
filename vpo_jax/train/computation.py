"""The amount of computation in a training step, without padding."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vpo_jax.data import examples as data_examples
from vpo_jax.data import forest
from vpo_jax.decoder import config as decoder_config


@dataclasses.dataclass(frozen=True)
class Computation:
  """What one step computes.

  Attributes:
    useful_tokens: tokens of the forest, with each group's stem counted once.
    plain_tokens: tokens of the same examples as separate rows of prompt and response.
    flops: forward and backward FLOP of the useful tokens and of the vocabulary product.
      Recomputation (remat, the head's logits) is not counted, nor are LoRA's own
      products (below 1 % at rank 16).
  """

  useful_tokens: int
  plain_tokens: int
  flops: float

  def rates(self, seconds: float) -> dict[str, float]:
    """Metrics of a step that took `seconds`."""
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
  frozen: bool = False,
) -> Computation:
  """Adds up the micro-batches of one step.

  Args:
    room: the shape's room for a stem, in tokens.
    frozen: whether the weights have no gradients, as with LoRA.
  """
  useful, plain, flops, predictions = 0, 0, 0.0, 0
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
      predictions += sum(predicted)
  head = predictions * 2 * config.d_model * config.vocab
  total = 3 * (flops + head)  # the backward pass is twice the forward
  if frozen:
    total -= useful * config.flops_per_token(0) + head
  return Computation(useful, plain, total)
