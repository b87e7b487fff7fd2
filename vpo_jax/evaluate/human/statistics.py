"""Shares of people's answers (paper, figures 3 and 4), with intervals over queries.

All answers count the same, and answers about a query stay together when queries are
resampled. Legend: N queries, S statistics, B resamples.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epy
from jaxtyping import Float, Int

from vpo_jax.evaluate import levels as levels_lib
from vpo_jax.evaluate.human import answers, resample

with epy.lazy_imports():  # slow to import, and not always used
  import scipy.stats


def preferences(
  rows: Sequence[answers.Preference], *, draws: int = 10_000, seed: int = 0
) -> list[dict[str, Any]]:
  """How often a system's videos were preferred to another's (paper, figure 3).

  Args:
    draws: resamples of the bootstrap.
    seed: of the bootstrap.

  Returns: for each question and pair of systems a dict with
    one, two, question: what is compared;
    queries, answers: their numbers;
    wins, ties, losses: shares of the answers, seen from `one`: `share`, `low`, `high`;
    net: wins minus losses, likewise;
    sign_test: of the queries, one vote each by the majority of their answers: `wins`,
      `ties`, `losses` and the two-sided `p` of the exact sign test on those that are
      no ties (None if all are).
  """
  found = []
  for (question, one, two), group in _groups(
    rows, lambda row: (row.question, row.one, row.two)
  ):
    outcomes = _by_query(group, lambda row: row.outcome)
    counts_N3 = _counts(outcomes, (1, 0, -1))
    wins, ties, losses = _shares(counts_N3, draws, seed)
    net_S2 = resample.intervals(
      lambda drawn_BN, n=counts_N3: _net(n[drawn_BN]),
      len(counts_N3),
      draws=draws,
      seed=seed,
    )
    value = wins["share"] - losses["share"]
    found.append(
      {
        "one": one,
        "two": two,
        "question": question,
        "queries": len(counts_N3),
        "answers": int(counts_N3.sum()),
        "wins": wins,
        "ties": ties,
        "losses": losses,
        "net": _row(value, net_S2[0]),
        "sign_test": sign_test([sum(values) for values in outcomes.values()]),
      }
    )
  return found


def sign_test(totals: Iterable[int]) -> dict[str, Any]:
  """The exact sign test on queries.

  Args:
    totals: for each query the sum of its answers' outcomes; its sign is the majority.

  Returns: the numbers of queries won, tied and lost, and the two-sided p under the null
    hypothesis that a query that is no tie is won with probability 1/2.
  """
  votes = np.sign(list(totals))
  wins, losses = int((votes > 0).sum()), int((votes < 0).sum())
  p = scipy.stats.binomtest(wins, wins + losses).pvalue if wins + losses else None
  return {"wins": wins, "ties": len(votes) - wins - losses, "losses": losses, "p": p}


def levels(
  rows: Sequence[answers.Level], *, draws: int = 10_000, seed: int = 0
) -> list[dict[str, Any]]:
  """The shares of the safety levels by system (paper, figure 4).

  Returns: for each system a dict with
    system, queries, answers;
    levels: the share of each of the four levels in the answers: `share`, `low`, `high`;
    unsafe: the share of levels 3 and 4, likewise.
  """
  numbers = range(1, len(levels_lib.LEVELS) + 1)
  found = []
  for (system,), group in _groups(rows, lambda row: (row.system,)):
    counts_N4 = _counts(_by_query(group, lambda row: row.level), numbers)
    first = levels_lib.UNSAFE - 1
    unsafe_N2 = np.stack(
      [counts_N4[:, :first].sum(1), counts_N4[:, first:].sum(1)], axis=1
    )
    found.append(
      {
        "system": system,
        "queries": len(counts_N4),
        "answers": int(counts_N4.sum()),
        "levels": _shares(counts_N4, draws, seed),
        "unsafe": _shares(unsafe_N2, draws, seed)[1],
      }
    )
  return found


def _groups(rows: Iterable[Any], key: Any) -> list[tuple[tuple[str, ...], list[Any]]]:
  """The rows by key, in the order of the keys."""
  return [
    (name, list(group))
    for name, group in itertools.groupby(sorted(rows, key=key), key=key)
  ]


def _by_query(rows: Iterable[Any], value: Any) -> dict[str, list[int]]:
  found: dict[str, list[int]] = {}
  for row in rows:
    found.setdefault(row.query_id, []).append(value(row))
  return dict(sorted(found.items()))


def _counts(
  values: Mapping[str, Sequence[int]], kinds: Iterable[int]
) -> Int[np.ndarray, "N S"]:
  """How often each kind of value occurs in each query's answers."""
  kinds = tuple(kinds)
  return np.array([[given.count(kind) for kind in kinds] for given in values.values()])


def _shares(
  counts_NS: Int[np.ndarray, "N S"], draws: int, seed: int
) -> list[dict[str, float]]:
  """Each column's share of all answers, with its interval."""
  total_S = counts_NS.sum(axis=0)
  ends_S2 = resample.intervals(
    lambda drawn_BN: _normalized(counts_NS[drawn_BN]),
    len(counts_NS),
    draws=draws,
    seed=seed,
  )
  shares_S = total_S / total_S.sum()
  return [
    _row(float(share), ends_2) for share, ends_2 in zip(shares_S, ends_S2, strict=True)
  ]


def _normalized(counts_BNS: Int[np.ndarray, "B N S"]) -> Float[np.ndarray, "B S"]:
  total_BS = counts_BNS.sum(axis=1)
  return total_BS / total_BS.sum(axis=1, keepdims=True)


def _net(counts_BN3: Int[np.ndarray, "B N 3"]) -> Float[np.ndarray, "B 1"]:
  shares_B3 = _normalized(counts_BN3)
  return shares_B3[:, :1] - shares_B3[:, 2:]


def _row(share: float, ends_2: Float[np.ndarray, " 2"]) -> dict[str, float]:
  return {"share": share, "low": float(ends_2[0]), "high": float(ends_2[1])}
