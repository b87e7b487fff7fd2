"""The bootstrap over queries: all answers about a query are drawn together.

Answers about one query are not independent, neither those of several raters nor those
about several systems, so queries are resampled and not answers.
"""

from collections.abc import Callable

import numpy as np
from etils import epy
from jaxtyping import Float, Int

with epy.lazy_imports():  # slow to import, and not always used
  import scipy.stats

LEVEL = 0.95  # of the intervals

Statistic = Callable[[Int[np.ndarray, "B N"]], Float[np.ndarray, "B S"]]


def intervals(
  statistic: Statistic, queries: int, *, draws: int, seed: int
) -> Float[np.ndarray, "S 2"]:
  """Percentile intervals of S statistics of N queries.

  Args:
    statistic: maps B resamples, each N indices of queries, to the S statistics.
    queries: N. With a single query, which cannot be resampled, the ends of each
      interval are the value itself.
    draws: resamples.
  """
  if queries == 1:
    value_S = statistic(np.zeros((1, 1), np.int64))[0]
    return np.stack([value_S, value_S], axis=1)

  def transposed(drawn: np.ndarray, axis: int) -> np.ndarray:
    """As scipy wants it: resamples on the last axis, if there are several."""
    return statistic(drawn).T if drawn.ndim == 2 else statistic(drawn[None])[0]

  found = scipy.stats.bootstrap(
    (np.arange(queries),),
    transposed,
    n_resamples=draws,
    batch=100,  # bounds the memory
    confidence_level=LEVEL,
    method="percentile",
    vectorized=True,
    axis=-1,
    rng=np.random.default_rng(seed),
  )
  interval = found.confidence_interval
  return np.stack([interval.low, interval.high], axis=1)
