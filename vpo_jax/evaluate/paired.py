"""Differences between systems on the same queries."""

import numpy as np
import scipy.stats
from jaxtyping import Float


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


def _mean_difference(two, one, axis):
  return np.mean(two - one, axis=axis)
