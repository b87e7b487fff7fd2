"""Agreement between raters, and between people and another judge."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import evalica
import numpy as np
import pandas as pd

from vpo_jax.evaluate.human import answers

Distance = Literal["nominal", "ordinal"]


def preferences(
  rows: Sequence[answers.Preference], *, draws: int = 10_000, seed: int = 0
) -> list[dict[str, Any]]:
  """Krippendorff's alpha (nominal) of the raters, for each question.

  A unit is a pair of videos; the values are win, tie and loss of the pair's first
  system. See `alpha`.
  """
  found = []
  for question in sorted({row.question for row in rows}):
    ratings = {
      (row.rater, (row.query_id, row.one, row.two)): row.outcome
      for row in rows
      if row.question == question
    }
    measured = alpha(ratings, "nominal", draws=draws, seed=seed)
    found.append({"question": question, **measured})
  return found


def levels(
  rows: Sequence[answers.Level], *, draws: int = 10_000, seed: int = 0
) -> dict[str, Any]:
  """Krippendorff's alpha (ordinal) of the raters' levels; see `alpha`."""
  ratings = {(row.rater, (row.query_id, row.system)): row.level for row in rows}
  return alpha(ratings, "ordinal", draws=draws, seed=seed)


def alpha(
  ratings: Mapping[tuple[str, Any], int],
  distance: Distance,
  *,
  draws: int = 10_000,
  seed: int = 0,
) -> dict[str, Any]:
  """Krippendorff's alpha: 1 is full agreement, 0 is that of chance.

  Args:
    ratings: values by rater and unit.
    distance: between two values.
    draws: resamples of Krippendorff's bootstrap (2006).

  Returns: `alpha` with the ends `low` and `high` of its 95 % interval, the number of
    `raters`, and that of the `units` which two or more of them rated. Alpha is None if
    there is no such unit or all ratings are equal, because it is not defined then.
  """
  raters = sorted({rater for rater, _ in ratings})
  by_unit: dict[Any, dict[str, int]] = {}
  for (rater, unit), value in ratings.items():
    by_unit.setdefault(unit, {})[rater] = value
  shared = {unit: given for unit, given in by_unit.items() if len(given) > 1}
  found = {"raters": len(raters), "units": len(shared), "distance": distance}
  if len({value for given in shared.values() for value in given.values()}) < 2:
    return {"alpha": None, "low": None, "high": None, **found}
  table = pd.DataFrame(
    [[given.get(rater, math.nan) for given in shared.values()] for rater in raters]
  )
  measured = evalica.alpha_bootstrap(
    table, distance, n_resamples=draws, random_state=seed
  )
  ends = {"alpha": measured.alpha, "low": measured.low, "high": measured.high}
  return {**ends, **found}


def majority(rows: Sequence[answers.Level]) -> dict[str, int]:
  """The most frequent level of each video, by its id; of several the least safe one."""
  counts: dict[str, collections.Counter] = {}
  for row in rows:
    counts.setdefault(row.video_id, collections.Counter())[row.level] += 1
  return {
    video: max(count, key=lambda level, n=count: (n[level], level))
    for video, count in counts.items()
  }


def with_judge(
  people: Mapping[str, int],
  judge: Mapping[str, int],
  *,
  draws: int = 10_000,
  seed: int = 0,
) -> dict[str, Any]:
  """Agreement of people's levels with those of another judge, on the same videos.

  Args:
    people: a level, 1 to 4, by video id, as of `majority`.
    judge: the judge's levels.

  Returns: the number of `videos` that both judged; on these the share of `equal`
    levels, Cohen's `kappa` (nominal) and `kappa_weighted` (quadratic weights), and
    Krippendorff's ordinal `alpha` with its interval.
  """
  shared = sorted(people.keys() & judge.keys())
  one_V = np.array([people[video] for video in shared], dtype=np.int64)
  two_V = np.array([judge[video] for video in shared], dtype=np.int64)
  ratings = {("people", video): people[video] for video in shared}
  ratings |= {("judge", video): judge[video] for video in shared}
  measured = alpha(ratings, "ordinal", draws=draws, seed=seed)
  return {
    "videos": len(shared),
    "equal": float((one_V == two_V).mean()) if shared else None,
    "kappa": kappa(one_V, two_V, lambda a, b: a != b),
    "kappa_weighted": kappa(one_V, two_V, lambda a, b: (a - b) ** 2),
    **{key: measured[key] for key in ("alpha", "low", "high")},
  }


def kappa(one_V: np.ndarray, two_V: np.ndarray, distance: Any) -> float | None:
  """Cohen's kappa: 1 minus the mean distance over that of chance.

  Args:
    one_V: the values of one judge for V videos.
    two_V: those of the other.
    distance: between two values, vectorized: `a != b` for plain kappa, `(a - b)**2` for
      quadratic weights.

  Returns: None if both judges gave one and the same value to all videos.
  """
  chance = distance(one_V[:, None], two_V[None, :]).mean() if len(one_V) else 0
  return float(1 - distance(one_V, two_V).mean() / chance) if chance else None
