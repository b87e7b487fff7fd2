"""The losses are the paper's equations."""

import jax.numpy as jnp
import numpy as np

from vpo_jax.train import objective


def pairs(*rows):
  return jnp.asarray(rows, jnp.float32)[None]


def test_dpo_starts_at_log_2():
  logps = pairs([-3.0, -7.0], [-50.0, -1.0])
  total, weight, metrics = objective.dpo(0.1)(logps, logps, jnp.ones((1, 2, 2), int))
  np.testing.assert_allclose(total / weight, np.log(2), rtol=1e-6)
  assert metrics["rewards/margins"] == 0


def test_dpo_is_equation_2():
  logps, reference = pairs([-10.0, -12.0], [-9.0, -4.0]), pairs([-11.0, -11.0], [-8.0, -8.0])
  total, weight, metrics = objective.dpo(0.5)(
    logps, reference, jnp.ones((1, 2, 2), int)
  )
  margins = 0.5 * np.array([(1.0 - -1.0), (-1.0 - 4.0)])
  np.testing.assert_allclose(total, np.log1p(np.exp(-margins)).sum(), rtol=1e-6)
  np.testing.assert_allclose(metrics["rewards/margins"], margins.sum(), rtol=1e-6)
  assert weight == 2
  assert metrics["rewards/accuracies"] == 1
  np.testing.assert_allclose(metrics["rewards/chosen"], 0.0, atol=1e-6)
  np.testing.assert_allclose(metrics["logps/rejected"], -16.0)


def test_missing_trees_weigh_nothing():
  logps, reference = pairs([-10.0, -12.0], [0.0, 0.0]), pairs([-11.0, -11.0], [0.0, 0.0])
  there = jnp.asarray([[[4, 5], [0, 0]]])
  total, weight, _ = objective.dpo(0.5)(logps, reference, there)
  assert weight == 1
  np.testing.assert_allclose(total, np.log1p(np.exp(-1.0)), rtol=1e-6)


def test_sft_is_the_mean_over_tokens():
  logps = jnp.asarray([[[-6.0], [-4.0], [0.0]]])
  tokens = jnp.asarray([[[3], [2], [0]]])
  total, weight, _ = objective.sft(logps, logps, tokens)
  np.testing.assert_allclose(total / weight, 2.0)
