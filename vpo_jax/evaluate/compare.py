"""The numbers of a comparison: means, shares, and paired differences."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import ml_collections
import numpy as np
from jaxtyping import Float

from vpo_jax import errors, records, templates
from vpo_jax.evaluate import levels, paired, systems

# By system and query: the videos of the system's prompt.
Scores: TypeAlias = dict[str, dict[str, list[records.Scored]]]


def compare(
  chosen: Sequence[systems.System],
  verdicts: Mapping[str, Mapping[str, str]],
  scores: Mapping[str, Scores],
  safety: Collection[str],
  limits: levels.Limits,
  config: ml_collections.ConfigDict,
) -> dict[str, Any]:
  """Everything that results.json holds.

  Args:
    verdicts: the judge's, by system and query.
    scores: by video model.
    safety: ids of the safety-related queries, whose videos have levels.
    config: `draws` and `seed` of the bootstrap.

  Raises:
    UserError: a video model without a query that all systems have a video of, or a
      limit on what its scorer does not measure.
  """
  pairs = _pairs(chosen)
  return {
    "systems": {one.name: {"source": one.source, "of": one.of} for one in chosen},
    "alignment": _alignment(verdicts, pairs, config),
    "video_models": {
      name: _filmed(name, found, safety, limits, pairs, config)
      for name, found in scores.items()
    },
  }


def _pairs(chosen: Sequence[systems.System]) -> list[tuple[str, str]]:
  """What is compared, the last system first; an iteration only with where it began."""
  found = [
    (one.name, two.name)
    for one, two in itertools.combinations(chosen, 2)
    if not two.of or one.name in (two.of, chosen[0].name)
    if two.of or not one.of
  ]
  place = {one.name: k for k, one in enumerate(chosen)}
  return sorted(found, key=lambda pair: (-place[pair[1]], place[pair[0]]))


def _alignment(
  verdicts: Mapping[str, Mapping[str, str]],
  pairs: Sequence[tuple[str, str]],
  config: ml_collections.ConfigDict,
) -> dict[str, Any]:
  shared = _shared(verdicts)
  if not shared:
    raise errors.UserError("evaluate: there is no query with a verdict on all systems")

  def share(verdict: str) -> dict[str, Float[np.ndarray, " N"]]:
    return {
      name: np.array([float(said[query] == verdict) for query in shared])
      for name, said in verdicts.items()
    }

  shares = {verdict: share(verdict) for verdict in templates.VERDICTS}
  return {
    "queries": len(shared),
    "systems": {
      name: {verdict: float(found[name].mean()) for verdict, found in shares.items()}
      for name in verdicts
    },
    "differences": {
      verdict: differences(shares[verdict], pairs, config)
      for verdict in ("aligned", "unsafe")
    },
  }


def _filmed(
  model: str,
  scores: Scores,
  safety: Collection[str],
  limits: levels.Limits,
  pairs: Sequence[tuple[str, str]],
  config: ml_collections.ConfigDict,
) -> dict[str, Any]:
  """One video model: rewards, and the levels of the safety-related queries' videos."""
  shared = _shared(scores)
  if not shared:
    raise errors.UserError(
      f"evaluate: {model} has no query that all systems have a video of"
    )

  def mean(
    of: Callable[[records.Scored], float], queries: Sequence[str]
  ) -> dict[str, Float[np.ndarray, " N"]]:
    """Of each query's videos, by system."""
    return {
      name: np.array([np.mean([of(row) for row in found[query]]) for query in queries])
      for name, found in scores.items()
    }

  reward = mean(lambda row: row.reward, shared)
  names = next(iter(next(iter(scores.values())).values()))[0].groups
  groups = {g: mean(lambda row, g=g: row.groups[g], shared) for g in names}
  asked = [query for query in shared if query in safety] if limits else []
  levels.check(
    limits,
    (row.scalars for found in scores.values() for q in asked for row in found[q]),
  )
  level = {
    k: mean(lambda row, k=k: levels.level(row.scalars, limits) == k, asked)
    for k in range(1, len(levels.LEVELS) + 1)
    if asked
  }
  unsafe = (
    mean(lambda row: levels.level(row.scalars, limits) >= levels.UNSAFE, asked)
    if asked
    else {}
  )
  return {
    "queries": len(shared),
    "dropped": max(map(len, scores.values())) - len(shared),
    "safety_queries": len(asked),
    "systems": {
      name: {
        "reward": float(reward[name].mean()),
        "groups": {g: float(values[name].mean()) for g, values in groups.items()},
        "levels": [float(shares[name].mean()) for shares in level.values()],
        "unsafe": float(np.mean(unsafe[name])) if asked else None,
        "rewards": [round(float(value), 6) for value in reward[name]],
      }
      for name in scores
    },
    "differences": {
      "reward": differences(reward, pairs, config),
      "unsafe": differences(unsafe, pairs, config) if asked else [],
    },
  }


def _shared(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
  return sorted(set.intersection(*(set(rows) for rows in found.values())))


def differences(
  values: Mapping[str, Float[np.ndarray, " N"]],
  pairs: Sequence[tuple[str, str]],
  config: ml_collections.ConfigDict,
) -> list[dict[str, Any]]:
  """Of each pair the second minus the first, on the same queries.

  Returns: mean and 95 % interval of the paired bootstrap, and on how many queries the
    second wins, ties and loses.
  """
  apart_PN = np.stack([values[two] - values[one] for one, two in pairs])
  between = paired.intervals(apart_PN, draws=config.draws, seed=config.seed)
  return [
    {
      "one": one,
      "two": two,
      "mean": float(apart.mean()),
      "low": float(low),
      "high": float(high),
      "wins": int((apart > 0).sum()),
      "ties": int((apart == 0).sum()),
      "losses": int((apart < 0).sum()),
    }
    for (one, two), apart, (low, high) in zip(pairs, apart_PN, between, strict=True)
  ]
