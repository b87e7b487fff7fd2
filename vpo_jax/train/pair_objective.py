"""Losses over preference pairs: the chosen and the rejected response to a query."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array

from vpo_jax import errors
from vpo_jax.train import objective

# (beta, log-ratios to the reference with the chosen first, tokens) -> loss of each pair
Preference = Callable[[float, Array, Array], Array]


def sigmoid(label_smoothing: float = 0.0, per_token: bool = False) -> Preference:
  """-log sigmoid(margin): DPO (arXiv:2305.18290, equation 7).

  Args:
    label_smoothing: the probability that a label is flipped (conservative DPO,
      ericmitchell.ai/cdpo.pdf, equation 3).
    per_token: divides each log-ratio by its response's tokens (TRL's `sigmoid_norm`).
  """

  def loss(beta: float, ratio_GN2: Array, tokens_GN2: Array) -> Array:
    margin_GN = beta * _difference(ratio_GN2, tokens_GN2 if per_token else None)
    kept = (1 - label_smoothing) * jax.nn.log_sigmoid(margin_GN)
    return -kept - label_smoothing * jax.nn.log_sigmoid(-margin_GN)

  return loss


def hinge(per_token: bool = False) -> Preference:
  """max(0, 1 - margin): SLiC (arXiv:2305.10425) with DPO's margin, as in TRL."""

  def loss(beta: float, ratio_GN2: Array, tokens_GN2: Array) -> Array:
    margin_GN = beta * _difference(ratio_GN2, tokens_GN2 if per_token else None)
    return jax.nn.relu(1 - margin_GN)

  return loss


def ipo(beta: float, ratio_GN2: Array, tokens_GN2: Array) -> Array:
  """(difference - 1 / (2 beta))^2 (arXiv:2310.12036, equation 17).

  Log-ratios are per token, as in TRL, whose source says that the paper's authors
  confirmed this.
  """
  return jnp.square(_difference(ratio_GN2, tokens_GN2) - 1 / (2 * beta))


def simpo(gamma: float) -> Preference:
  """-log sigmoid(margin - gamma), per token and without a reference: SimPO.

  Equation 6 of arXiv:2405.14734. The log-ratios are log-probabilities.
  """

  def loss(beta: float, logp_GN2: Array, tokens_GN2: Array) -> Array:
    return -jax.nn.log_sigmoid(beta * _difference(logp_GN2, tokens_GN2) - gamma)

  return loss


def orpo(beta: float, logp_GN2: Array, tokens_GN2: Array) -> Array:
  """-beta log sigmoid(log of the odds ratio): ORPO's second term, without a reference.

  Equations 4 and 7 of arXiv:2403.07691, where beta is lambda. A probability is that of
  the mean token. ORPO's first term is the SFT term of `dpo`.
  """
  mean_GN2 = logp_GN2 / jnp.maximum(tokens_GN2, 1).astype(jnp.float32)
  # log(1 - p), where p is 1 for a missing response.
  rest_GN2 = jnp.log(-jnp.expm1(jnp.minimum(mean_GN2, -1e-7)))
  odds_GN2 = mean_GN2 - rest_GN2
  return -beta * jax.nn.log_sigmoid(odds_GN2[..., 0] - odds_GN2[..., 1])


# Their loss sees log-probabilities in place of log-ratios; no reference is computed.
REFERENCE_FREE = ("simpo", "orpo")


def _difference(ratio_GN2: Array, tokens_GN2: Array | None) -> Array:
  if tokens_GN2 is not None:
    ratio_GN2 = ratio_GN2 / jnp.maximum(tokens_GN2, 1).astype(jnp.float32)
  return ratio_GN2[..., 0] - ratio_GN2[..., 1]


def from_config(config: ml_collections.ConfigDict) -> objective.Objective:
  """The preference objective that configs/dpo.py describes.

  Raises:
    UserError: a value is out of range or does not apply to the loss.
  """
  per_token = config.length_normalized
  losses = {
    "sigmoid": sigmoid(config.label_smoothing, per_token),
    "hinge": hinge(per_token),
    "ipo": ipo,
    "simpo": simpo(config.gamma),
    "orpo": orpo,
  }
  if config.loss not in losses:
    raise errors.UserError(
      f"config.loss={config.loss!r}: must be one of {', '.join(losses)}"
    )
  if config.beta <= 0:
    raise errors.UserError(f"config.beta={config.beta}: must be greater than 0")
  if config.sft_weight < 0:
    raise errors.UserError(f"config.sft_weight={config.sft_weight}: must be at least 0")
  if not 0 <= config.label_smoothing < 0.5:
    raise errors.UserError(
      f"config.label_smoothing={config.label_smoothing}: must be at least 0 and less"
      " than 0.5"
    )
  if config.label_smoothing and config.loss != "sigmoid":
    raise errors.UserError("config.label_smoothing requires config.loss=sigmoid")
  if per_token and config.loss in ("ipo", *REFERENCE_FREE):
    raise errors.UserError(
      f"config.length_normalized: {config.loss} is always length-normalized; set it to"
      " False"
    )
  if config.loss == "orpo" and not config.sft_weight:
    raise errors.UserError(
      "config.sft_weight=0.0: orpo requires its SFT term; its authors set 1.0"
    )
  return dpo(config.beta, losses[config.loss], config.sft_weight)


def dpo(
  beta: float, preference: Preference | None = None, sft_weight: float = 0.0
) -> objective.Objective:
  """Mean over pairs of a preference loss, in nats (paper, equation 2).

  The margin is beta * (log pi/pi_ref of the chosen - log pi/pi_ref of the rejected).
  Metrics have TRL's names; rewards and log-probabilities are sums over tokens in nats,
  whatever the loss. Without a reference (`REFERENCE_FREE`) log-ratios are
  log-probabilities.

  Args:
    preference: the loss of each pair; None is `sigmoid()`, the paper's.
    sft_weight: weight of an added SFT term, the chosen response's mean -log P per token
      (the release's `pref_ftx`), averaged per response and then per pair as in
      LLaMA-Factory.
  """
  preference = preference or sigmoid()

  def loss(responses: objective.Responses) -> objective.Sums:
    logp_GN2, tokens_GN2 = responses.logp_GNE, responses.tokens_GNE
    exists_GN = responses.exists_GNE[..., 0]
    ratio_GN2 = logp_GN2 - responses.reference_GNE
    rewards_GN2 = beta * ratio_GN2
    margin_GN = rewards_GN2[..., 0] - rewards_GN2[..., 1]
    loss_GN = preference(beta, ratio_GN2, tokens_GN2)
    if sft_weight:
      tokens_GN = jnp.maximum(tokens_GN2[..., 0], 1).astype(jnp.float32)
      chosen_GN = logp_GN2[..., 0] / tokens_GN
      loss_GN = loss_GN - sft_weight * chosen_GN

    def total(values_GN: Array) -> Array:
      return jnp.sum(exists_GN * values_GN)

    metrics = {
      "rewards/chosen": total(rewards_GN2[..., 0]),
      "rewards/rejected": total(rewards_GN2[..., 1]),
      "rewards/margins": total(margin_GN),
      "rewards/accuracies": total((margin_GN > 0).astype(jnp.float32)),
      "logps/chosen": total(logp_GN2[..., 0]),
      "logps/rejected": total(logp_GN2[..., 1]),
    }
    return total(loss_GN), jnp.sum(exists_GN), metrics

  return loss
