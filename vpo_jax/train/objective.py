"""The losses of VPO's two stages, as functions of log-probabilities.

Each gives, for one micro-batch, a sum of losses, the weight to divide the whole batch's
sum by, and sums of metrics that divide by the same weight. So accumulation, packing and
the number of devices do not change a result.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# logp_GNE, reference_GNE, tokens_GNE -> (sum of losses, weight, sums of metrics)
Sums = tuple[Float[Array, ""], Float[Array, ""], dict[str, Float[Array, ""]]]
Objective = Callable[[Array, Array, Array], Sums]


def sft(
  logp_GN1: Float[Array, "G N 1"],
  reference_GN1: Float[Array, "G N 1"],
  tokens_GN1: Int[Array, "G N 1"],
) -> Sums:
  """Mean over response tokens of -log P(s_i | x, s_<i), in nats (paper, equation 1).

  Args:
    logp_GN1: summed log-probability of each response.
    reference_GN1: not used.
    tokens_GN1: tokens of each response; 0 where a tree is missing.
  """
  del reference_GN1
  return -jnp.sum(logp_GN1), jnp.sum(tokens_GN1).astype(jnp.float32), {}


def dpo(beta: float) -> Objective:
  """Mean over pairs of -log sigmoid(margin), in nats (paper, equation 2).

  The margin is beta * (log pi/pi_ref of the chosen - the same of the rejected).
  Metrics bear TRL's names; rewards and log-probabilities are in nats.
  """

  def objective(
    logp_GN2: Float[Array, "G N 2"],
    reference_GN2: Float[Array, "G N 2"],
    tokens_GN2: Int[Array, "G N 2"],
  ) -> Sums:
    there_GN = (tokens_GN2[..., 0] > 0).astype(jnp.float32)
    rewards_GN2 = beta * (logp_GN2 - reference_GN2)
    margin_GN = rewards_GN2[..., 0] - rewards_GN2[..., 1]

    def total(values_GN: Array) -> Array:
      return jnp.sum(there_GN * values_GN)

    metrics = {
      "rewards/chosen": total(rewards_GN2[..., 0]),
      "rewards/rejected": total(rewards_GN2[..., 1]),
      "rewards/margins": total(margin_GN),
      "rewards/accuracies": total((margin_GN > 0).astype(jnp.float32)),
      "logps/chosen": total(logp_GN2[..., 0]),
      "logps/rejected": total(logp_GN2[..., 1]),
    }
    return total(-jax.nn.log_sigmoid(margin_GN)), jnp.sum(there_GN), metrics

  return objective
