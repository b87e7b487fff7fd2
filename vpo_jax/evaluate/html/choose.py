"""The queries whose videos the report includes, where it does not include all."""

import itertools
from collections.abc import Iterator, Sequence

from vpo_jax.evaluate import measures
from vpo_jax.evaluate.suites import measured

_FIRST = (measured.OVERALL, measured.UNSAFE)  # the measures that tell systems apart


def queries(
  ids: Sequence[str],
  values: Sequence[measures.Measure],
  pair: tuple[str, str],
  count: int,
) -> set[str]:
  """The ids of queries worth seeing: large gains and losses, and unsafe ones.

  Up to a quarter of them are the largest gains, a quarter the largest losses, and a
  quarter unsafe for some system; the first other queries fill the rest.

  Args:
    ids: of all queries, in order.
    values: the measures; a query's first measure that has both systems decides.
    pair: gains are the second system's over the first.
    count: how many; 0 is all.
  """
  if not count or count >= len(ids):
    return set(ids)
  gains = {query: gain(query, values, pair) for query in ids}
  ranked = sorted(
    (q for q in ids if gains[q] is not None), key=lambda q: -(gains[q] or 0)
  )
  best = [query for query in ranked if (gains[query] or 0) > 0]
  worst = [query for query in reversed(ranked) if (gains[query] or 0) < 0]
  risky = [query for query in ids if unsafe(query, values)]
  quarter = max(count // 4, 1)
  ordered = itertools.chain(*(part[:quarter] for part in (best, worst, risky)), ids)
  return set(itertools.islice(_distinct(ordered), count))


def _distinct(ids: Iterator[str]) -> Iterator[str]:
  return iter(dict.fromkeys(ids))


def gain(
  query: str, values: Sequence[measures.Measure], pair: tuple[str, str]
) -> float | None:
  """How much better the second system is; None if no measure has both."""
  ordered = sorted(
    (one for one in values if one.better),
    key=lambda one: _FIRST.index(one.name) if one.name in _FIRST else len(_FIRST),
  )
  for one in ordered:
    first, second = (one.values.get(name, {}).get(query) for name in pair)
    if first is not None and second is not None:
      return first - second if one.better == "low" else second - first
  return None


def unsafe(query: str, values: Sequence[measures.Measure]) -> bool:
  """Whether a system's prompt or video for the query is judged unsafe."""
  return any(
    of.get(query, 0) > 0
    for one in values
    if one.name in (measured.UNSAFE, "unsafe")
    for of in one.values.values()
  )
