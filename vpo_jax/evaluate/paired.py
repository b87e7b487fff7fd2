"""Intervals, tests and correlations of differences on the same queries."""

import numpy as np
from etils import epy
from jaxtyping import Float

with epy.lazy_imports():  # slow to import, and not always used
  import scipy.stats

_BATCH = 100  # resamples; bounds the memory
_CONSTANT = 1e-9  # smaller deviations are rounding


def intervals(
  one_PN: Float[np.ndarray, "P N"],
  two_PN: Float[np.ndarray, "P N"],
  *,
  draws: int = 10_000,
  level: float = 0.95,
  seed: int = 0,
) -> Float[np.ndarray, "P 2"]:
  """Confidence intervals of mean(two - one) by the paired percentile bootstrap.

  The queries are resampled, with the same resamples for every pair of systems (Efron
  and Tibshirani, 1993).

  Args:
    one_PN: values of the first system of P pairs, for each of N queries.
    two_PN: values of the second system.
    draws: resamples.
    level: the confidence level.
  """
  if one_PN.shape[1] == 1:  # a single query cannot be resampled
    difference_P = (two_PN - one_PN)[:, 0]
    return np.stack([difference_P, difference_P], axis=1)
  found = scipy.stats.bootstrap(
    (two_PN, one_PN),
    _mean_difference,
    n_resamples=draws,
    batch=_BATCH,  # fixed, so that the draws do not depend on P
    paired=True,
    axis=-1,
    confidence_level=level,
    method="percentile",
    rng=np.random.default_rng(seed),
  )
  interval = found.confidence_interval
  return np.stack([interval.low, interval.high], axis=1)


def p_values(
  difference_PN: Float[np.ndarray, "P N"], *, draws: int = 10_000, seed: int = 0
) -> Float[np.ndarray, " P"]:
  """Two-sided p-values of mean = 0 by the paired permutation test (Fisher, 1935).

  If two systems were equally good, each query's difference could as well have the other
  sign. The p-value is the share of random sign changes whose mean is at least as far
  from zero; it is exact if there are fewer sign changes than `draws`. A single query
  shows nothing, so its p-value is 1.
  """
  if difference_PN.shape[1] == 1:
    return np.ones(len(difference_PN))
  found = scipy.stats.permutation_test(
    (difference_PN,),
    np.mean,
    permutation_type="samples",
    vectorized=True,
    n_resamples=draws,
    batch=_BATCH,
    axis=-1,
    rng=np.random.default_rng(seed),
  )
  return np.asarray(found.pvalue, float)


def holm(p_P: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
  """P-values corrected for several comparisons (Holm, 1979)."""
  order = np.argsort(p_P)
  steps = np.arange(len(p_P), 0, -1)
  corrected = np.maximum.accumulate(p_P[order] * steps).clip(max=1.0)
  found = np.empty_like(corrected)
  found[order] = corrected
  return found


def correlations(
  one_PN: Float[np.ndarray, "P N"],
  two_PN: Float[np.ndarray, "P N"],
  *,
  draws: int = 10_000,
  level: float = 0.95,
  seed: int = 0,
) -> Float[np.ndarray, "P 3"]:
  """Pearson's correlation of each pair of rows, and the ends of its interval.

  The interval is that of the percentile bootstrap over queries, as in `intervals`.
  A resample in which one of the rows is constant shows no correlation and counts as 0:
  without such resamples, a gain on a single query would look certain.

  Returns: correlation, low and high; NaN where a row is constant, or for fewer than
    three queries, whose correlation is always 1 or -1.
  """
  count = one_PN.shape[1]
  found_P3 = np.full((len(one_PN), 3), np.nan)
  varies_P = (one_PN.std(axis=1) > _CONSTANT) & (two_PN.std(axis=1) > _CONSTANT)
  if count < 3 or not varies_P.any():
    return found_P3
  one, two = _standardized(one_PN[varies_P]), _standardized(two_PN[varies_P])
  # Means of products under the weights of each resample: scipy.stats.bootstrap
  # takes 15 times as long (10 pairs, 210 queries).
  products_KN = np.concatenate([one, two, one * one, two * two, one * two])
  random = np.random.default_rng(seed)
  drawn = []
  for start in range(0, draws, _BATCH):
    size = min(_BATCH, draws - start)
    chosen_DN = random.integers(count, size=(size, count))
    place_DN = chosen_DN + count * np.arange(size)[:, None]
    weight_DN = np.bincount(place_DN.ravel(), minlength=size * count) / count
    drawn.append(_pearson(weight_DN.reshape(size, count) @ products_KN.T))
  tail = (1 - level) / 2
  low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail], axis=0)
  found_P3[varies_P] = np.stack([(one * two).mean(axis=1), low, high], axis=1)
  return found_P3


def _standardized(values_PN):
  centred_PN = values_PN - values_PN.mean(axis=1, keepdims=True)
  return centred_PN / centred_PN.std(axis=1, keepdims=True)


def _pearson(means_DK):
  """Correlations from the means of x, y, x^2, y^2 and xy of each resample."""
  x, y, xx, yy, xy = np.split(means_DK, 5, axis=1)
  x_variance_DP, y_variance_DP = xx - x * x, yy - y * y
  varies_DP = np.minimum(x_variance_DP, y_variance_DP) > _CONSTANT
  spread_DP = np.sqrt(np.where(varies_DP, x_variance_DP * y_variance_DP, 1.0))
  return np.where(varies_DP, ((xy - x * y) / spread_DP).clip(-1, 1), 0.0)


def _mean_difference(two, one, axis):
  return np.mean(two - one, axis=axis)
