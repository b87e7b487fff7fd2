"""How well a head predicts the rewards of queries that it was not fitted to."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from vpo_jax import records
from vpo_jax.predict import head as heads


@dataclasses.dataclass(frozen=True)
class Report:
  """Cross-validated measures; rewards are compared within a query.

  Attributes:
    queries, prompts: their numbers.
    pairs: pairs of prompts of one query whose rewards differ by more than the margin.
    pair_accuracy: share of them that is ranked rightly; None without pairs.
    r2: share of the variance of the gains that is predicted; negative if the mean
      would be a better prediction. None if all rewards of each query are equal.
    gain: mean gain of the prompt of each query that is predicted to be the best.
    best_gain: mean gain of the prompt that is the best.
    coverage: share of the gains in their intervals of 50, 80 and 95 %.
  """

  queries: int
  prompts: int
  pairs: int
  pair_accuracy: float | None
  r2: float | None
  gain: float
  best_gain: float
  coverage: dict[str, float]


def cross_validate(
  x_NF: Float[np.ndarray, "N F"],
  reward_N: Float[np.ndarray, " N"],
  query_N: Int[np.ndarray, " N"],
  *,
  fold_Q: Int[np.ndarray, " Q"],
  margin: float,
) -> Report:
  """Fits a head to all folds but one, and predicts that one, in turn.

  Args:
    x_NF: features of the prompts.
    reward_N: their rewards.
    query_N: the index of each prompt's query in `fold_Q`.
    fold_Q: each query's fold (`folds`).
    margin: pairs with a smaller difference in reward do not count.
  """
  mean_N, deviation_N = np.empty(len(x_NF)), np.empty(len(x_NF))
  fold_N = fold_Q[query_N]
  for fold in np.unique(fold_N):
    out = fold_N == fold
    head = heads.fit(x_NF[~out], reward_N[~out], query_N[~out])
    mean_N[out], deviation_N[out] = head.predict(x_NF[out], query_N[out])
  gain_N = heads.centre(reward_N.astype(np.float64), query_N)
  error_N = gain_N - mean_N
  right, pairs, chosen, best = 0.0, 0, [], []
  for query in np.unique(query_N):
    gain_K, mean_K = gain_N[query_N == query], mean_N[query_N == query]
    apart_KK = gain_K[:, None] - gain_K[None] > margin
    ahead_KK = mean_K[:, None] - mean_K[None]
    pairs += int(apart_KK.sum())
    right += float((0.5 + 0.5 * np.sign(ahead_KK[apart_KK])).sum())  # a tie: a half
    chosen.append(gain_K[np.argmax(mean_K)])
    best.append(gain_K.max())
  total = float(np.square(gain_N).sum())
  within = {
    f"{share:.0%}": float(
      np.mean(np.abs(error_N) <= stats.norm.ppf(0.5 + share / 2) * deviation_N)
    )
    for share in (0.5, 0.8, 0.95)
  }
  return Report(
    queries=len(best),
    prompts=len(x_NF),
    pairs=pairs,
    pair_accuracy=right / pairs if pairs else None,
    r2=1 - float(np.square(error_N).sum()) / total if total else None,
    gain=float(np.mean(chosen)),
    best_gain=float(np.mean(best)),
    coverage=within,
  )


def folds(query_ids: Sequence[str], count: int) -> Int[np.ndarray, " Q"]:
  """The fold of each query, by its id alone but for the sizes, which are even."""
  order = sorted(range(len(query_ids)), key=lambda q: records.row_id(query_ids[q]))
  fold_Q = np.empty(len(query_ids), np.int64)
  fold_Q[order] = np.arange(len(query_ids)) % count
  return fold_Q
