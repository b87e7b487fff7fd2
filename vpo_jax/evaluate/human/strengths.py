"""The Bradley-Terry model of several systems that people compared in pairs."""

from collections.abc import Sequence
from typing import Any

import evalica
import numpy as np
import pandas as pd
from etils import epy
from jaxtyping import Float

from vpo_jax.evaluate.human import answers, resample

with epy.lazy_imports():  # slow to import, and not always used
  import scipy.sparse.csgraph

# evalica stops when no score moves by more than this, or after so many iterations.
_TOLERANCE, _ITERATIONS = 1e-9, 10_000

_WINNERS = {1: evalica.Winner.X, 0: evalica.Winner.Draw, -1: evalica.Winner.Y}


def bradley_terry(
  rows: Sequence[answers.Preference], *, draws: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
  """The strength of each system, for each question.

  System i is preferred to system j with probability 1 / (1 + exp(s_j - s_i)), where s
  are the strengths; their mean is 0. A tie counts as half a win of each.

  Args:
    draws: resamples of the queries.

  Returns: for each question a dict with
    question;
    systems: by name `strength`, `low`, `high`, the strongest system first;
    draws, unbounded: the number of resamples, and of those without an estimate.
    A strength is None if it has no finite estimate: some systems never lost against the
    others. The ends of the intervals are None if that happens in more than 2.5 % of the
    resamples, which may then hold an end.
  """
  found = []
  for question in sorted({row.question for row in rows}):
    asked = [row for row in rows if row.question == question]
    found.append({"question": question, **_strengths(asked, draws, seed)})
  return found


def _strengths(
  rows: Sequence[answers.Preference], draws: int, seed: int
) -> dict[str, Any]:
  systems = sorted({name for row in rows for name in (row.one, row.two)})
  queries = sorted({row.query_id for row in rows})
  # Kinds of answers: a pair of systems with an outcome. Their counts by query.
  kinds = sorted({(row.one, row.two, row.outcome) for row in rows})
  counts_NK = np.zeros((len(queries), len(kinds)))
  for row in rows:
    kind = kinds.index((row.one, row.two, row.outcome))
    counts_NK[queries.index(row.query_id), kind] += 1
  estimate = _fit(kinds, counts_NK.sum(axis=0), systems)
  drawn_BN = np.random.default_rng(seed).integers(
    len(queries), size=(draws, len(queries))
  )
  fits_BS = np.stack(
    [_fit(kinds, counts_NK[drawn_N].sum(axis=0), systems) for drawn_N in drawn_BN]
  )
  bounded_B = np.isfinite(fits_BS).all(axis=1)
  tail = (1 - resample.LEVEL) / 2
  ends_2S = np.full((2, len(systems)), np.nan)
  if (~bounded_B).mean() <= tail:
    ends_2S = np.quantile(fits_BS[bounded_B], [tail, 1 - tail], axis=0)
  table = {
    name: {
      key: float(value) if np.isfinite(value) else None
      for key, value in zip(
        ("strength", "low", "high"), (strength, low, high), strict=True
      )
    }
    for name, strength, low, high in zip(systems, estimate, *ends_2S, strict=True)
  }
  order = sorted(
    systems, key=lambda name: -np.nan_to_num(estimate[systems.index(name)])
  )
  return {
    "systems": {name: table[name] for name in order},
    "draws": draws,
    "unbounded": int((~bounded_B).sum()),
  }


def _fit(
  kinds: Sequence[tuple[str, str, int]],
  counts_K: Float[np.ndarray, " K"],
  systems: Sequence[str],
) -> Float[np.ndarray, " S"]:
  """The strengths; NaN if they have no finite estimate."""
  if not _is_bounded(kinds, counts_K, systems):
    return np.full(len(systems), np.nan)
  result = evalica.bradley_terry(
    [one for one, _, _ in kinds],
    [two for _, two, _ in kinds],
    [_WINNERS[outcome] for _, _, outcome in kinds],
    index=pd.Index(systems),
    weights=counts_K.tolist(),
    tolerance=_TOLERANCE,
    limit=_ITERATIONS,
  )
  strength_S = np.log(np.asarray(result.scores[list(systems)]))
  return strength_S - strength_S.mean()


def _is_bounded(
  kinds: Sequence[tuple[str, str, int]],
  counts_K: Float[np.ndarray, " K"],
  systems: Sequence[str],
) -> bool:
  """Whether each group of systems won at least once against the others (Ford, 1957).

  evalica returns tiny equal scores otherwise.
  """
  beaten_SS = np.zeros((len(systems), len(systems)), dtype=bool)
  for (one, two, outcome), count in zip(kinds, counts_K, strict=True):
    i, j = systems.index(one), systems.index(two)
    beaten_SS[i, j] |= bool(count) and outcome >= 0
    beaten_SS[j, i] |= bool(count) and outcome <= 0
  parts, _ = scipy.sparse.csgraph.connected_components(beaten_SS, connection="strong")
  return parts == 1
