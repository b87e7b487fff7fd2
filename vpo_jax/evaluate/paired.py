"""Differences between systems on the same queries."""

import numpy as np
from jaxtyping import Float


def intervals(
  differences_PN: Float[np.ndarray, "P N"],
  *,
  draws: int = 10_000,
  level: float = 0.95,
  seed: int = 0,
) -> Float[np.ndarray, "P 2"]:
  """The percentile bootstrap's intervals of means (Efron and Tibshirani, 1993).

  Args:
    differences_PN: P pairs of systems, one difference a query: the queries are what is
      drawn anew, the same ones for every pair.
  """
  count = differences_PN.shape[1]
  # A draw is how often each query comes: a multinomial.
  times_KN = np.random.default_rng(seed).multinomial(
    count, np.full(count, 1 / count), size=draws
  )
  means_KP = times_KN @ differences_PN.T / count
  return np.quantile(means_KP, [(1 - level) / 2, (1 + level) / 2], axis=0).T
