"""Differences between two systems on the same queries."""

import numpy as np
from jaxtyping import Float


def interval(
  differences_N: Float[np.ndarray, " N"],
  *,
  draws: int = 10_000,
  level: float = 0.95,
  seed: int = 0,
) -> tuple[float, float]:
  """The percentile bootstrap's interval of the mean (Efron and Tibshirani, 1993).

  Args:
    differences_N: one a query: the queries are what is drawn anew.
  """
  random = np.random.default_rng(seed)
  count = len(differences_N)
  # A draw is how often each query comes: a multinomial.
  means = [
    random.multinomial(count, np.full(count, 1 / count)) @ differences_N / count
    for _ in range(draws)
  ]
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)
