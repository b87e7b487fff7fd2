"""The losses of VPO's two stages, as functions of log-probabilities.

For one micro-batch an objective returns the sum of the losses, the sum of the weights,
and sums of metrics. The training step divides the sums over the batch by the batch's
weight, so gradient accumulation, packing and the number of devices change no result.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array, Float, Int

from vpo_jax import errors

# logp_GNE, reference_GNE, tokens_GNE -> (sum of losses, weight, sums of metrics)
Sums = tuple[Float[Array, ""], Float[Array, ""], dict[str, Float[Array, ""]]]
Objective = Callable[[Array, Array, Array], Sums]


def sft(
  logp_GN1: Float[Array, "G N 1"],
  reference_GN1: Float[Array, "G N 1"],
  tokens_GN1: Int[Array, "G N 1"],
) -> Sums:
  """Mean over a batch's response tokens of -log P(s_i | x, s_<i), in nats.

  Every token weighs the same, so a long response weighs more than a short one; TRL and
  LLaMA-Factory average so too (transformers' trainer divides by the batch's tokens).

  Args:
    logp_GN1: summed log-probability of each response.
    reference_GN1: not used.
    tokens_GN1: number of tokens of each response; 0 where a tree is missing.
  """
  del reference_GN1
  return -jnp.sum(logp_GN1), jnp.sum(tokens_GN1).astype(jnp.float32), {}


def sft_by_example(
  logp_GN1: Float[Array, "G N 1"],
  reference_GN1: Float[Array, "G N 1"],
  tokens_GN1: Int[Array, "G N 1"],
) -> Sums:
  """Mean over examples of each example's mean over its tokens, in nats.

  The paper's equation 1, read literally: it divides one response's sum by its length N.

  Args: as in `sft`.
  """
  del reference_GN1
  exists_GN1 = (tokens_GN1 > 0).astype(jnp.float32)
  length_GN1 = jnp.maximum(tokens_GN1, 1).astype(jnp.float32)
  return -jnp.sum(exists_GN1 * logp_GN1 / length_GN1), jnp.sum(exists_GN1), {}


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


def _difference(ratio_GN2: Array, tokens_GN2: Array | None) -> Array:
  if tokens_GN2 is not None:
    ratio_GN2 = ratio_GN2 / jnp.maximum(tokens_GN2, 1).astype(jnp.float32)
  return ratio_GN2[..., 0] - ratio_GN2[..., 1]


def from_config(config: ml_collections.ConfigDict) -> Objective:
  """The preference objective that configs/dpo.py describes.

  Raises:
    UserError: a value is out of range or does not apply to the loss.
  """
  per_token = config.length_normalized
  losses = {
    "sigmoid": sigmoid(config.label_smoothing, per_token),
    "hinge": hinge(per_token),
    "ipo": ipo,
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
  if per_token and config.loss == "ipo":
    raise errors.UserError(
      "config.length_normalized: ipo is always length-normalized; set it to False"
    )
  return dpo(config.beta, losses[config.loss], config.sft_weight)


def dpo(
  beta: float, preference: Preference | None = None, sft_weight: float = 0.0
) -> Objective:
  """Mean over pairs of a preference loss, in nats (paper, equation 2).

  The margin is beta * (log pi/pi_ref of the chosen - log pi/pi_ref of the rejected).
  Metrics have TRL's names; rewards and log-probabilities are sums over tokens in nats,
  whatever the loss.

  Args:
    preference: the loss of each pair; None is `sigmoid()`, the paper's.
    sft_weight: weight of an added SFT term, the chosen response's mean -log P per token
      (the release's `pref_ftx`), averaged per response and then per pair as in
      LLaMA-Factory.
  """
  preference = preference or sigmoid()

  def objective(
    logp_GN2: Float[Array, "G N 2"],
    reference_GN2: Float[Array, "G N 2"],
    tokens_GN2: Int[Array, "G N 2"],
  ) -> Sums:
    exists_GN = (tokens_GN2[..., 0] > 0).astype(jnp.float32)
    ratio_GN2 = logp_GN2 - reference_GN2
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

  return objective
