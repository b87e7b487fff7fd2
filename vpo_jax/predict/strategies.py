"""The rules by which candidates are chosen for rendering."""

from collections.abc import Mapping, Sequence

from vpo_jax import records

# "spread": the highest and the lowest gain of a query, which make informative pairs.
# "promising": the highest gains. "uncertain": the largest standard deviations.
# "random": without a predictor, to compare with.
NAMES = ("spread", "promising", "uncertain", "random")

# (gain, standard deviation) by candidate index; None where nothing is predicted.
Predictions = Mapping[int, tuple[float | None, float | None]]

# (value, candidate index) of a query, in the order in which they are to be chosen.
Ranked = Sequence[tuple[float, int]]


def rank(
  strategy: str, seed: int, query_id: str, predictions: Predictions
) -> list[tuple[float, int]]:
  """The candidates of a query in the order in which they are worth a render.

  Without a prediction, a candidate is left out unless the choice is random.

  Args:
    strategy: one of `NAMES`.
    seed: of a random choice.
    query_id: the query's id.
    predictions: of its candidates.

  Returns: values and indices. Values never increase. Only the first two make a pair, so
    both have their mean value.
  """
  if strategy == "random":
    # A hash is as good as a draw, and depends on the candidate alone.
    draws = {i: int(records.row_id(seed, query_id, i), 16) for i in predictions}
    found = [(draws[i] / 2**64, i) for i in sorted(draws, key=lambda i: -draws[i])]
  else:
    known = [(g, d, i) for i, (g, d) in predictions.items() if g is not None]
    gains = sorted(((gain, index) for gain, _, index in known), key=lambda x: -x[0])
    if strategy == "uncertain":
      found = sorted(((d or 0.0, index) for _, d, index in known), key=lambda x: -x[0])
    elif strategy == "promising":
      found = gains
    else:
      found = _from_both_ends(gains)
  if len(found) < 2:
    return found
  value = (found[0][0] + found[1][0]) / 2
  rest = [(min(v, value), index) for v, index in found[2:]]
  return [(value, found[0][1]), (value, found[1][1]), *rest]


def _from_both_ends(gains: Ranked) -> list[tuple[float, int]]:
  """The highest and the lowest, then the rest; the value is the distance from the mean.

  Args:
    gains: the highest first.
  """
  if not gains:
    return []
  mean = sum(gain for gain, _ in gains) / len(gains)
  far = [(abs(gain - mean), index) for gain, index in gains]
  return [far[0], *far[:0:-1][:1], *sorted(far[1:-1], key=lambda x: -x[0])]


def choose(ranked: Sequence[Ranked], budget: int, per_query: int) -> list[set[int]]:
  """The indices of the chosen candidates of each query, of the highest values.

  Args:
    ranked: as `rank` returns them, for each query.
    budget: how many may be chosen in all.
    per_query: how many of one query; a query of which any is chosen has at least two.
  """
  units = []  # a query's first two are chosen together or not at all
  for query, one in enumerate(ranked):
    one = one[:per_query]
    if len(one) > 1:
      units.append((one[0][0], query, [index for _, index in one[:2]]))
      units += [(value, query, [index]) for value, index in one[2:]]
  units.sort(key=lambda unit: -unit[0])  # stable: a pair stays ahead of the rest
  chosen: list[set[int]] = [set() for _ in ranked]
  for _, query, indices in units:
    if len(indices) <= budget and (len(indices) == 2 or chosen[query]):
      chosen[query].update(indices)
      budget -= len(indices)
  return chosen
