"""What a loss is, and those of SFT. `pair_objective` and `group_objective` have more.

For one micro-batch an objective returns the sum of the losses, the sum of the weights,
and sums of metrics. The training step divides the sums over the batch by the batch's
weight, so gradient accumulation, packing and the number of devices change no result.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array, Float, Int

from vpo_jax import errors
from vpo_jax.data import forest


@flax.struct.dataclass
class Responses:
  """The responses of a micro-batch: E for each of N trees in each of G groups.

  Attributes:
    logp_GP: log-probability of each of a group's P tokens, in nats.
    reference_GP: that under the model that training starts from; 0 if it is not needed.
    leaf_GP: which of the N * E responses a token belongs to; N * E for padding.
    tokens_GNE: number of tokens of each response; 0 where there is none.
    reward_GNE: reward of each response; 0 if it is not needed.
    baseline: a number that all micro-batches of a batch share (`WithBaseline`).
  """

  logp_GP: Float[Array, "G P"]
  reference_GP: Float[Array, "G P"]
  leaf_GP: Int[Array, "G P"]
  tokens_GNE: Int[Array, "G N E"]
  reward_GNE: Float[Array, "G N E"]
  baseline: Float[Array, ""] | float = 0.0

  @classmethod
  def of(
    cls,
    batch: forest.Forest,
    logp_GP: Float[Array, "G P"],
    baseline: Float[Array, ""] | float = 0.0,
  ) -> "Responses":
    """The responses of a packed forest.

    Args:
      logp_GP: from `policy.token_logps`.
    """
    arrays = (batch.reference_GP, batch.leaf_GP, batch.tokens_GNE, batch.reward_GNE)
    return cls(logp_GP, *map(jnp.asarray, arrays), baseline=baseline)  # pyright: ignore[reportCallIssue]

  @property
  def logp_GNE(self) -> Float[Array, "G N E"]:
    """Log-probability of each response given its prompt, in nats."""
    return self.sums(self.logp_GP)

  @property
  def reference_GNE(self) -> Float[Array, "G N E"]:
    """Log-probability of each response under the reference model, in nats."""
    return self.sums(self.reference_GP)

  @property
  def exists_GNE(self) -> Float[Array, "G N E"]:
    """1 for a response, 0 where there is none."""
    return (self.tokens_GNE > 0).astype(jnp.float32)

  def sums(self, values_GP: Float[Array, "G P"]) -> Float[Array, "G N E"]:
    """Sums over the tokens of each response; 0 where there is none."""
    leaves = self.tokens_GNE[0].size

    def by_leaf(values_P: Array, leaf_P: Array) -> Array:
      # Padding is added to one extra leaf, which is dropped.
      return jax.ops.segment_sum(values_P, leaf_P, leaves + 1)[:leaves]

    return jax.vmap(by_leaf)(values_GP, self.leaf_GP).reshape(self.tokens_GNE.shape)

  def means(self, values_GP: Float[Array, "G P"]) -> Float[Array, "G N E"]:
    """Means over the tokens of each response; 0 where there is none."""
    return self.sums(values_GP) / jnp.maximum(self.tokens_GNE, 1).astype(jnp.float32)

  def spread(self, values_GNE: Float[Array, "G N E"]) -> Float[Array, "G P"]:
    """The value of each token's response; 0 for padding."""
    flat = values_GNE.reshape(len(values_GNE), -1)
    padded = jnp.pad(flat, ((0, 0), (0, 1)))
    return jnp.take_along_axis(padded, self.leaf_GP, axis=-1)


# The sum of the losses, the weight, and sums of metrics.
Sums = tuple[Float[Array, ""], Float[Array, ""], dict[str, Float[Array, ""]]]
Objective = Callable[[Responses], Sums]


@runtime_checkable
class WithBaseline(Protocol):
  """An objective that needs one number of the whole batch before its losses.

  The step computes it over all micro-batches in a forward pass of its own; no gradient
  goes through it.
  """

  def baseline(self, responses: Responses) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The sum and the weight of a micro-batch; the baseline is sum / weight."""
    ...

  def __call__(self, responses: Responses) -> Sums: ...


def sft(responses: Responses) -> Sums:
  """Mean over a batch's response tokens of -log P(s_i | x, s_<i), in nats.

  Every token weighs the same, so a long response weighs more than a short one; TRL and
  LLaMA-Factory average so too (transformers' trainer divides by the batch's tokens).
  """
  weight = jnp.sum(responses.tokens_GNE).astype(jnp.float32)
  return -jnp.sum(responses.logp_GNE), weight, {}


def sft_by_example(responses: Responses) -> Sums:
  """Mean over examples of each example's mean over its tokens, in nats.

  The paper's equation 1, read literally: it divides one response's sum by its length N.
  """
  means_GNE = responses.means(responses.logp_GP)
  return -jnp.sum(means_GNE), jnp.sum(responses.exists_GNE), {}


def sft_from_config(config: ml_collections.ConfigDict) -> Objective:
  """The SFT objective that configs/sft.py describes.

  Raises:
    UserError: `loss_average` has another value.
  """
  losses: dict[str, Objective] = {"tokens": sft, "examples": sft_by_example}
  if config.loss_average not in losses:
    raise errors.UserError(
      f"config.loss_average={config.loss_average!r}: must be one of {', '.join(losses)}"
    )
  return losses[config.loss_average]
