"""Intervals and tests of differences between systems on the same queries."""

import numpy as np
from etils import epy
from jaxtyping import Float

with epy.lazy_imports():  # slow to import, and not always used
  import scipy.stats


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
    batch=100,  # bounds the memory; fixed, so that the draws do not depend on P
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
    batch=100,
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


def _mean_difference(two, one, axis):
  return np.mean(two - one, axis=axis)
