"""The losses are the paper's equations."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from vpo_jax import errors
from vpo_jax.train import objective, pair_objective


def pairs(*rows):
  return jnp.asarray(rows, jnp.float32)[None]


def responses(logp_GNE, reference_GNE, tokens_GNE, reward_GNE=None):
  """Responses whose log-probabilities are those of their first tokens."""
  flat = len(logp_GNE), -1
  leaf_GP = jnp.broadcast_to(jnp.arange(logp_GNE[0].size), logp_GNE.reshape(flat).shape)
  return objective.Responses(
    logp_GNE.reshape(flat),
    reference_GNE.reshape(flat),
    leaf_GP,
    jnp.asarray(tokens_GNE),
    jnp.zeros_like(logp_GNE) if reward_GNE is None else reward_GNE,
  )


def test_dpo_starts_at_log_2():
  logps = pairs([-3.0, -7.0], [-50.0, -1.0])
  total, weight, metrics = pair_objective.dpo(0.1)(
    responses(logps, logps, jnp.ones((1, 2, 2), int))
  )
  np.testing.assert_allclose(total / weight, np.log(2), rtol=1e-6)
  assert metrics["rewards/margins"] == 0


def test_dpo_is_equation_2():
  logps, reference = (
    pairs([-10.0, -12.0], [-9.0, -4.0]),
    pairs([-11.0, -11.0], [-8.0, -8.0]),
  )
  total, weight, metrics = pair_objective.dpo(0.5)(
    responses(logps, reference, jnp.ones((1, 2, 2), int))
  )
  margins = 0.5 * np.array([(1.0 - -1.0), (-1.0 - 4.0)])
  np.testing.assert_allclose(total, np.log1p(np.exp(-margins)).sum(), rtol=1e-6)
  np.testing.assert_allclose(metrics["rewards/margins"], margins.sum(), rtol=1e-6)
  assert weight == 2
  assert metrics["rewards/accuracies"] == 1
  np.testing.assert_allclose(metrics["rewards/chosen"], 0.0, atol=1e-6)
  np.testing.assert_allclose(metrics["logps/rejected"], -16.0)


def test_missing_trees_weigh_nothing():
  logps, reference = (
    pairs([-10.0, -12.0], [0.0, 0.0]),
    pairs([-11.0, -11.0], [0.0, 0.0]),
  )
  there = jnp.asarray([[[4, 5], [0, 0]]])
  total, weight, _ = pair_objective.dpo(0.5)(responses(logps, reference, there))
  assert weight == 1
  np.testing.assert_allclose(total, np.log1p(np.exp(-1.0)), rtol=1e-6)


def test_sft_is_the_mean_over_tokens():
  logps = jnp.asarray([[[-6.0], [-4.0], [0.0]]])
  tokens = jnp.asarray([[[3], [2], [0]]])
  total, weight, _ = objective.sft(responses(logps, logps, tokens))
  np.testing.assert_allclose(total / weight, 2.0)


def test_sft_by_example_is_the_mean_of_each_examples_mean():
  logps = jnp.asarray([[[-6.0], [-4.0], [0.0]]])
  tokens = jnp.asarray([[[3], [1], [0]]])
  total, weight, _ = objective.sft_by_example(responses(logps, logps, tokens))
  np.testing.assert_allclose(total / weight, (2.0 + 4.0) / 2)
  with pytest.raises(errors.UserError, match="must be one of tokens, examples"):
    objective.sft_from_config(ml_collections.ConfigDict({"loss_average": "batch"}))


# Three pairs: log-probabilities, those of the reference, and tokens; chosen first.
LOGPS = np.array([[-10.0, -12.0], [-9.0, -4.0], [-30.0, -31.5]])
REFERENCE = np.array([[-11.0, -11.0], [-8.0, -8.0], [-35.0, -29.0]])
TOKENS = np.array([[4, 5], [7, 2], [20, 31]])


def config(**changes):
  return ml_collections.ConfigDict(
    {
      "beta": 0.3,
      "loss": "sigmoid",
      "label_smoothing": 0.0,
      "length_normalized": False,
      "sft_weight": 0.0,
      "gamma": 0.5,
      **changes,
    }
  )


def trl(loss_type, beta=0.3, label_smoothing=0.0):
  """TRL's `DPOTrainer` losses (1.16; label smoothing as in 0.9), in numpy."""
  chosen, rejected = (LOGPS - REFERENCE).T
  if loss_type in ("ipo", "sigmoid_norm"):
    chosen, rejected = chosen / TOKENS[:, 0], rejected / TOKENS[:, 1]
  delta = chosen - rejected
  softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731  -log sigmoid(-x)
  if loss_type == "ipo":
    return np.mean((delta - 1 / (2 * beta)) ** 2)
  if loss_type == "hinge":
    return np.mean(np.maximum(0, 1 - beta * delta))
  kept, flipped = softplus(-beta * delta), softplus(beta * delta)
  return np.mean(kept * (1 - label_smoothing) + flipped * label_smoothing)


@pytest.mark.parametrize(
  ("ours", "theirs"),
  [
    ({}, {"loss_type": "sigmoid"}),
    ({"label_smoothing": 0.2}, {"loss_type": "sigmoid", "label_smoothing": 0.2}),
    ({"length_normalized": True}, {"loss_type": "sigmoid_norm"}),
    ({"loss": "hinge"}, {"loss_type": "hinge"}),
    ({"loss": "ipo"}, {"loss_type": "ipo"}),
  ],
  ids=lambda values: " ".join(map(str, values.values())) or "default",
)
def test_losses_are_trls(ours, theirs):
  loss = pair_objective.from_config(config(**ours))
  total, weight, metrics = loss(responses(pairs(*LOGPS), pairs(*REFERENCE), [TOKENS]))
  np.testing.assert_allclose(total / weight, trl(**theirs), rtol=1e-5)
  # TRL's rewards are summed over tokens whatever the loss.
  margin = 0.3 * (2.0 - 5.0 + 7.5)
  np.testing.assert_allclose(metrics["rewards/margins"], margin, rtol=1e-5)


def test_the_sft_term_is_the_chosens_mean_over_tokens():
  given = responses(pairs(*LOGPS), pairs(*REFERENCE), [TOKENS])
  without, _, _ = pair_objective.from_config(config())(given)
  with_term, _, _ = pair_objective.from_config(config(sft_weight=0.5))(given)
  term = -(LOGPS[:, 0] / TOKENS[:, 0]).sum()
  np.testing.assert_allclose(with_term - without, 0.5 * term, rtol=1e-5)


def trl_reference_free(loss_type, beta=0.3, gamma=0.5):
  """TRL's SimPO (`CPOTrainer`) and ORPO, without ORPO's SFT term, in numpy."""
  chosen, rejected = (LOGPS / TOKENS).T
  softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
  if loss_type == "simpo":
    return np.mean(softplus(-(beta * (chosen - rejected) - gamma)))
  odds = lambda p: p - np.log1p(-np.exp(p))  # noqa: E731
  return np.mean(beta * softplus(-(odds(chosen) - odds(rejected))))


@pytest.mark.parametrize("name", pair_objective.REFERENCE_FREE)
def test_reference_free_losses_are_trls(name):
  """ORPO's SFT term is that of the other losses."""
  weight = 1.0 if name == "orpo" else 0.0
  loss = pair_objective.from_config(config(loss=name, sft_weight=weight))
  zero = jnp.zeros((1, 3, 2))
  total, count, metrics = loss(responses(pairs(*LOGPS), zero, [TOKENS]))
  term = -(LOGPS[:, 0] / TOKENS[:, 0]).mean()
  expected = trl_reference_free(name) + weight * term
  np.testing.assert_allclose(total / count, expected, rtol=1e-5)
  np.testing.assert_allclose(metrics["logps/chosen"], LOGPS[:, 0].sum(), rtol=1e-6)


def test_a_missing_pair_has_no_gradient_in_orpo():
  loss = pair_objective.from_config(config(loss="orpo", sft_weight=1.0))

  def total(logps):
    there = [[[4, 5], [0, 0]]]
    return loss(responses(logps, jnp.zeros((1, 2, 2)), there))[0]

  grads = jax.grad(total)(pairs([-10.0, -12.0], [0.0, 0.0]))
  assert np.isfinite(grads).all()
  assert grads[0, 0].all()
  assert not grads[0, 1].any()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"loss": "kto"}, "one of sigmoid, hinge, ipo"),
    ({"beta": 0.0}, "beta=0.0"),
    ({"label_smoothing": 0.5}, "less than 0.5"),
    ({"loss": "hinge", "label_smoothing": 0.1}, "requires config.loss=sigmoid"),
    ({"loss": "ipo", "length_normalized": True}, "ipo is always"),
    ({"loss": "simpo", "length_normalized": True}, "simpo is always"),
    ({"loss": "orpo"}, "orpo requires its SFT term"),
    ({"sft_weight": -1.0}, "sft_weight=-1.0"),
  ],
)
def test_values_without_meaning_are_refused(changes, message):
  with pytest.raises(errors.UserError, match=message):
    pair_objective.from_config(config(**changes))
