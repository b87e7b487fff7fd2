"""The bootstrap's intervals agree with theory where theory is known."""

import numpy as np
import pytest

from vpo_jax.evaluate import paired


def test_it_is_the_normal_interval_for_many_normal_numbers():
  values = np.random.default_rng(0).normal(0.3, 2.0, 400)
  ((low, high),) = paired.intervals(0 * values[None], values[None], draws=4000)
  error = 1.96 * values.std() / 20
  assert low == pytest.approx(values.mean() - error, abs=0.1 * error)
  assert high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_it_covers_the_truth_as_often_as_it_says():
  random = np.random.default_rng(1)
  covered = 0
  for trial in range(200):
    values = random.exponential(1.0, (1, 60)) - 1
    ((low, high),) = paired.intervals(
      np.zeros_like(values), values, draws=300, level=0.9, seed=trial
    )
    covered += low <= 0 <= high
  assert 0.82 <= covered / 200 <= 0.96


def test_equal_systems_have_no_interval_and_the_seed_decides():
  values = np.random.default_rng(2).normal(size=(2, 30))
  values[0] = 0
  zeros = np.zeros_like(values)
  found = paired.intervals(zeros, values, draws=50, seed=3)
  assert found[0].tolist() == [0.0, 0.0]
  assert (found == paired.intervals(zeros, values, draws=50, seed=3)).all()
  alone = paired.intervals(zeros[1:], values[1:], draws=50, seed=3)
  assert alone[0] == pytest.approx(found[1])


def test_holm_multiplies_the_smallest_most():
  found = paired.holm(np.array([0.01, 0.04, 0.03]))
  np.testing.assert_allclose(found, [0.03, 0.06, 0.06])
  np.testing.assert_allclose(paired.holm(np.array([0.9, 0.5])), [1.0, 1.0])


def test_p_values_are_exact_for_few_queries():
  """Of 16 sign changes of 1, 2, 3 and 4, one has the mean 2.5 and one the mean -2.5."""
  rows = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, -1.0, 1.0, -1.0]])
  np.testing.assert_allclose(paired.p_values(rows), [2 / 16, 1.0])


def test_the_correlations_interval_is_fishers_for_normal_numbers():
  random = np.random.default_rng(4)
  one = random.normal(size=(2, 400))
  two = np.stack([0.6 * one[0] + 0.8 * random.normal(size=400), np.full(400, 0.1)])
  found = paired.correlations(one, two + 1e3, draws=4000)
  r = np.corrcoef(one[0], two[0])[0, 1]
  fisher = np.tanh(np.arctanh(r) + np.array([-1.96, 1.96]) / np.sqrt(397))
  np.testing.assert_allclose(found[0], [r, *fisher], atol=0.015)
  assert np.isnan(found[1]).all()  # a constant has no correlation
  assert np.isnan(paired.correlations(one[:, :2], one[:, :2])).all()


def test_one_query_alone_does_not_make_a_correlation_certain():
  """A third of the resamples lack the only query of twelve that differs."""
  rare = np.zeros((1, 12))
  rare[0, 11] = 1.0
  ((r, low, high),) = paired.correlations(rare, np.linspace(0, 1, 12)[None], draws=300)
  assert low == 0
  assert 0.4 < r < high < 1
