"""Losses over all K responses of a query, by their rewards.

A response without a reward (NaN) is left out. Where responses are compared with each
other, so is a query with one response.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vpo_jax.train import objective


def plackett_luce(beta: float) -> objective.Objective:
  """DPO on a ranking (arXiv:2305.18290, appendix A.3, equation 20), in nats.

  Of two responses the loss is DPO's sigmoid. Responses with the same reward are not
  ranked among each other. The mean is over groups.
  """

  def loss(responses: objective.Responses) -> objective.Sums:
    used_GNE, reward_GNE = _used(responses)
    score_GNE = beta * (responses.logp_GNE - responses.reference_GNE)
    # Of each response: itself and those below it.
    below_GNEE = reward_GNE[..., :, None] > reward_GNE[..., None, :]
    itself_EE = jnp.eye(used_GNE.shape[-1], dtype=bool)[None, None]
    rivals_GNEE = (below_GNEE | itself_EE) & used_GNE[..., None, :]
    total_GNE = _logsumexp(score_GNE[..., None, :], rivals_GNEE)
    loss_GN = jnp.sum(_where(used_GNE, total_GNE - score_GNE), axis=-1)
    ranked_GNEE = below_GNEE & used_GNE[..., None, :] & used_GNE[..., :, None]
    right_GNEE = score_GNE[..., :, None] > score_GNE[..., None, :]
    pairs_GN = jnp.maximum(jnp.sum(ranked_GNEE, (-1, -2)), 1).astype(jnp.float32)
    right_GN = jnp.sum(_where(ranked_GNEE, right_GNEE.astype(jnp.float32)), (-1, -2))
    exists_GN = jnp.any(ranked_GNEE, axis=(-1, -2)).astype(jnp.float32)
    metrics = {
      "rewards/accuracies": jnp.sum(exists_GN * right_GN / pairs_GN),
      "logps/mean": jnp.sum(exists_GN * _mean(responses.logp_GNE, used_GNE)),
    }
    return jnp.sum(exists_GN * loss_GN), jnp.sum(exists_GN), metrics

  return loss


def policy_gradient(
  *,
  clip_low: float,
  clip_high: float,
  kl_weight: float,
  scaled: bool,
  length: int | None = None,
) -> objective.Objective:
  """The clipped policy gradient with advantages within a group: GRPO.

  Equation 3 of arXiv:2402.03300, for responses that the reference model wrote: the
  ratio of each token's probability to that under the reference is clipped, and the KL
  term is its estimate k3. The mean is over responses.

  Args:
    clip_low: a ratio may fall to 1 - clip_low.
    clip_high: a ratio may rise to 1 + clip_high (arXiv:2503.14476 allows more here).
    kl_weight: weight of KL(policy || reference) per token.
    scaled: advantages are divided by the group's standard deviation.
    length: None averages over the tokens of each response, as GRPO does. A number
      divides its sum by it, which treats long and short responses alike (Dr. GRPO,
      arXiv:2503.20783, which also has `scaled=False`).
  """

  def loss(responses: objective.Responses) -> objective.Sums:
    used_GNE, reward_GNE = _used(responses)
    advantage_GNE = advantages(reward_GNE, used_GNE, scaled)
    advantage_GP = responses.spread(advantage_GNE)
    difference_GP = responses.logp_GP - responses.reference_GP
    ratio_GP = jnp.exp(difference_GP)
    clipped_GP = jnp.clip(ratio_GP, 1 - clip_low, 1 + clip_high)
    gain_GP = jnp.minimum(ratio_GP * advantage_GP, clipped_GP * advantage_GP)
    kl_GP = jnp.exp(-difference_GP) + difference_GP - 1
    of_tokens_GP = kl_weight * kl_GP - gain_GP
    if length is None:
      loss_GNE = responses.means(of_tokens_GP)
    else:
      loss_GNE = responses.sums(of_tokens_GP) / length
    outside_GP = (ratio_GP * advantage_GP > gain_GP).astype(jnp.float32)

    def total(values_GNE: Float[Array, "G N E"]) -> Float[Array, ""]:
      return jnp.sum(_where(used_GNE, values_GNE))

    metrics = {
      "kl": total(responses.means(kl_GP)),
      "clip_ratio": total(responses.means(outside_GP)),
      "reward": total(reward_GNE),
      "logps/mean": total(responses.logp_GNE),
    }
    return total(loss_GNE), jnp.sum(used_GNE).astype(jnp.float32), metrics

  return loss


# The reward of a response that belongs to another query.
MISMATCHED = math.inf


@dataclasses.dataclass(frozen=True)
class Kto:
  """Each response is desirable (reward 1) or not (reward 0): KTO.

  L_KTO in section 4 of arXiv:2402.01306. Its reference point z0 is the batch's mean
  log-ratio of responses to queries that are not their own (`MISMATCHED`), at least 0;
  no gradient goes through it. The mean is over responses.

  Attributes:
    desirable_weight: lambda_D.
    undesirable_weight: lambda_U.
  """

  beta: float
  desirable_weight: float
  undesirable_weight: float

  def baseline(
    self, responses: objective.Responses
  ) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The sum of the mismatched responses' log-ratios, and their number."""
    other_GNE = (responses.tokens_GNE > 0) & jnp.isposinf(responses.reward_GNE)
    ratio_GNE = responses.logp_GNE - responses.reference_GNE
    return jnp.sum(_where(other_GNE, ratio_GNE)), jnp.sum(other_GNE).astype(jnp.float32)

  def __call__(self, responses: objective.Responses) -> objective.Sums:
    used_GNE = (responses.tokens_GNE > 0) & jnp.isfinite(responses.reward_GNE)
    z0 = jnp.maximum(jax.lax.stop_gradient(responses.baseline), 0.0)
    gain_GNE = responses.logp_GNE - responses.reference_GNE - z0
    desirable_GNE = responses.reward_GNE > 0.5
    sign_GNE = jnp.where(desirable_GNE, 1.0, -1.0)
    weight_GNE = jnp.where(
      desirable_GNE, self.desirable_weight, self.undesirable_weight
    )
    loss_GNE = weight_GNE * (1 - jax.nn.sigmoid(self.beta * sign_GNE * gain_GNE))
    right_GNE = (sign_GNE * gain_GNE > 0).astype(jnp.float32)

    def total(values_GNE: Float[Array, "G N E"]) -> Float[Array, ""]:
      return jnp.sum(_where(used_GNE, values_GNE))

    count = jnp.sum(used_GNE).astype(jnp.float32)
    metrics = {
      "kl": z0 * count,
      "rewards/accuracies": total(right_GNE),
      "logps/mean": total(responses.logp_GNE),
    }
    return total(loss_GNE), count, metrics


def advantages(
  reward_GNE: Float[Array, "G N E"], used_GNE: Bool[Array, "G N E"], scaled: bool
) -> Float[Array, "G N E"]:
  """Rewards minus their group's mean; 0 for responses that are not used.

  Args:
    scaled: divides by the group's standard deviation (of a sample, plus 1e-4, as TRL
      does).
  """
  mean_GN = _mean(reward_GNE, used_GNE)
  centered_GNE = _where(used_GNE, reward_GNE - mean_GN[..., None])
  if not scaled:
    return centered_GNE
  freedom_GN = jnp.maximum(jnp.sum(used_GNE, axis=-1) - 1, 1).astype(jnp.float32)
  deviation_GN = jnp.sqrt(jnp.sum(jnp.square(centered_GNE), axis=-1) / freedom_GN)
  return centered_GNE / (deviation_GN[..., None] + 1e-4)


def _used(
  responses: objective.Responses,
) -> tuple[Bool[Array, "G N E"], Float[Array, "G N E"]]:
  """Which responses count, and the rewards with 0 for those that do not."""
  known_GNE = (responses.tokens_GNE > 0) & ~jnp.isnan(responses.reward_GNE)
  several_GN = jnp.sum(known_GNE, axis=-1) > 1
  used_GNE = known_GNE & several_GN[..., None]
  return used_GNE, jnp.where(used_GNE, responses.reward_GNE, 0.0)


def _where(mask: Array, values: Array) -> Array:
  return jnp.where(mask, values, 0.0)


def _mean(
  values_GNE: Float[Array, "G N E"], used_GNE: Bool[Array, "G N E"]
) -> Float[Array, "G N"]:
  count_GN = jnp.maximum(jnp.sum(used_GNE, axis=-1), 1).astype(jnp.float32)
  return jnp.sum(_where(used_GNE, values_GNE), axis=-1) / count_GN


def _logsumexp(
  values: Float[Array, "G N 1 E"], mask: Bool[Array, "G N E E"]
) -> Float[Array, "G N E"]:
  """Over the last axis, where the mask holds; 0 where it holds nowhere."""
  any_GNE = jnp.any(mask, axis=-1)
  safe = jnp.where(any_GNE[..., None], mask, True)
  return _where(any_GNE, jax.nn.logsumexp(values, axis=-1, where=safe))
