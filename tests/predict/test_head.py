"""The closed form equals plain solves, and the intervals are calibrated."""

import numpy as np
import pytest

from vpo_jax.predict import head as heads
from vpo_jax.predict import validation


def world(queries, features=6, noise=0.5, seed=0, sizes=(2, 6)):
  """Rewards that are linear in the features, with noise and a level of each query."""
  rng = np.random.default_rng(seed)
  count_Q = rng.integers(*sizes, queries)
  query_N = np.repeat(np.arange(queries), count_Q)
  x_NF = rng.normal(size=(len(query_N), features)) * np.logspace(-2, 2, features)
  weight_F = rng.normal(size=features) / np.logspace(-2, 2, features)
  level_N = 9 * rng.normal(size=queries)[query_N]
  reward_N = x_NF @ weight_F + noise * rng.normal(size=len(query_N)) + level_N
  return x_NF, reward_N, query_N


def prior_precision(head):
  return 1 / head.rest


@pytest.mark.parametrize("features", [6, 200])
def test_the_head_is_the_ridge_regression_of_centred_rewards(features):
  """Also with more features than prompts."""
  x_NF, reward_N, query_N = world(30, features)
  head = heads.fit(x_NF, reward_N, query_N)
  x = heads.centre(x_NF, query_N) / head.scale_F
  y = heads.centre(reward_N, query_N)
  precision_FF = x.T @ x + prior_precision(head) * np.eye(features)
  weight_F = np.linalg.solve(precision_FF, x.T @ y)
  np.testing.assert_allclose(head.weight_F, weight_F, atol=1e-8)
  new_NF, _, number_N = world(5, features, seed=1)
  mean_N, deviation_N = head.predict(new_NF, number_N)
  new = heads.centre(new_NF, number_N) / head.scale_F
  np.testing.assert_allclose(mean_N, new @ weight_F, atol=1e-8)
  variance_N = 1 + np.sum(new * np.linalg.solve(precision_FF, new.T).T, axis=1)
  np.testing.assert_allclose(deviation_N, head.noise * np.sqrt(variance_N), rtol=1e-6)


def test_leaving_a_query_out_equals_fitting_without_it():
  x_NF, reward_N, query_N = world(12)
  x, y = heads.centre(x_NF, query_N), heads.centre(reward_N, query_N)
  u_NR, s_R, _ = np.linalg.svd(x, full_matrices=False)
  error_N, spread_N = heads.leave_query_out(u_NR, s_R, y, query_N, penalty=3.0)
  for query in range(12):
    out = query_N == query
    precision_FF = x[~out].T @ x[~out] + 3 * np.eye(6)
    weight_F = np.linalg.solve(precision_FF, x[~out].T @ y[~out])
    np.testing.assert_allclose(error_N[out], y[out] - x[out] @ weight_F, atol=1e-9)
    spread = np.diag(x[out] @ np.linalg.solve(precision_FF, x[out].T))
    np.testing.assert_allclose(spread_N[out], spread, atol=1e-9)


def test_the_level_of_a_query_changes_nothing():
  x_NF, reward_N, query_N = world(30)
  shift_N = np.linspace(-50, 50, 30)[query_N]
  head, shifted = (
    heads.fit(x, reward, query_N)
    for x, reward in ((x_NF, reward_N), (x_NF + shift_N[:, None], reward_N + shift_N))
  )
  np.testing.assert_allclose(head.weight_F, shifted.weight_F, atol=1e-8)


def cross_validated(queries, features, **changes):
  x_NF, reward_N, query_N = world(queries, features, sizes=(4, 5), **changes)
  fold_Q = validation.folds([f"q{q}" for q in range(queries)], 5)
  return validation.cross_validate(x_NF, reward_N, query_N, fold_Q=fold_Q, margin=0.5)


def test_intervals_are_calibrated():
  """With weights that are sure, and with more features than prompts to fit them."""
  for queries, features in ((400, 20), (80, 500)):
    report = cross_validated(queries, features)
    assert abs(report.coverage["80%"] - 0.8) < 0.05
    assert abs(report.coverage["50%"] - 0.5) < 0.06


def test_cross_validation_measures_what_can_be_predicted():
  exact = cross_validated(60, 6, noise=1e-6)
  assert exact.pair_accuracy == 1
  assert exact.r2 > 0.999
  assert exact.gain == pytest.approx(exact.best_gain)
  noisy = cross_validated(60, 6, noise=1.0)
  assert 0.6 < noisy.pair_accuracy < 1
  assert 0 < noisy.gain < noisy.best_gain


def test_cross_validation_of_noise_finds_nothing():
  rng = np.random.default_rng(0)
  query_N = np.repeat(np.arange(200), 4)
  fold_Q = validation.folds([f"q{q}" for q in range(200)], 5)
  x_NF, reward_N = rng.normal(size=(800, 50)), rng.normal(size=800)
  found = validation.cross_validate(x_NF, reward_N, query_N, fold_Q=fold_Q, margin=0.5)
  assert abs(found.pair_accuracy - 0.5) < 0.06
  assert found.r2 < 0.01


def test_no_query_is_split(monkeypatch):
  """Every prediction is by a head that has seen no prompt of its query."""
  x_NF, reward_N, query_N = world(23)
  seen, fit, predict = [], heads.fit, heads.Head.predict

  def record_fit(x_NF, reward_N, query_N):
    seen.append(set(query_N))
    return fit(x_NF, reward_N, query_N)

  predicted = []

  def record_predict(head, x_NF, query_N):
    assert not seen[-1] & set(query_N)
    predicted.extend(query_N)
    return predict(head, x_NF, query_N)

  monkeypatch.setattr(heads, "fit", record_fit)
  monkeypatch.setattr(heads.Head, "predict", record_predict)
  fold_Q = validation.folds([f"q{q}" for q in range(23)], 5)
  validation.cross_validate(x_NF, reward_N, query_N, fold_Q=fold_Q, margin=0.5)
  assert sorted(predicted) == sorted(query_N)
  assert len(seen) == 5


def test_folds_depend_on_ids_and_not_on_their_order():
  ids = [f"q{q}" for q in range(23)]
  fold_Q, reversed_Q = validation.folds(ids, 5), validation.folds(ids[::-1], 5)
  assert fold_Q.tolist() == reversed_Q[::-1].tolist()
  assert sorted(np.bincount(fold_Q)) == [4, 4, 5, 5, 5]
