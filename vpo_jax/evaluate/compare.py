"""The numbers of a comparison: means, shares, and paired differences."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import ml_collections
import numpy as np
from jaxtyping import Float

from vpo_jax import errors, records, templates
from vpo_jax.evaluate import levels, paired, systems

# The scored videos, by system and query.
Scores: TypeAlias = dict[str, dict[str, list[records.Scored]]]


def compare(
  chosen: Sequence[systems.System],
  verdicts: Mapping[str, Mapping[str, str]],
  scores: Mapping[str, Scores],
  safety: Collection[str],
  limits: levels.Limits,
  config: ml_collections.ConfigDict,
) -> dict[str, Any]:
  """The content of results.json.

  Args:
    verdicts: the judge's verdicts, by system and query.
    scores: the scored videos, by video model.
    safety: ids of the safety-related queries; their videos get safety levels.
    config: `draws` and `seed` of the bootstrap.

  Raises:
    UserError: for some video model, no query has a video from every system; or a limit
      names a measure that the scorer does not give.
  """
  pairs = _pairs(chosen)
  return {
    "systems": {one.name: {"source": one.source, "of": one.of} for one in chosen},
    "alignment": _alignment(verdicts, pairs, config),
    "video_models": {
      name: _rendered(name, found, safety, limits, pairs, config)
      for name, found in scores.items()
    },
  }


def _pairs(chosen: Sequence[systems.System]) -> list[tuple[str, str]]:
  """The pairs of systems to compare, last system first.

  An iteration is compared only with the system that it started from and the first one.
  """
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
    raise errors.UserError("evaluate: no query has a verdict for every system")

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


def _rendered(
  model: str,
  scores: Scores,
  safety: Collection[str],
  limits: levels.Limits,
  pairs: Sequence[tuple[str, str]],
  config: ml_collections.ConfigDict,
) -> dict[str, Any]:
  """One video model: rewards, and safety levels of safety-related queries' videos."""
  shared = _shared(scores)
  if not shared:
    raise errors.UserError(f"evaluate: {model}: no query has a video from every system")

  def mean(
    of: Callable[[records.Scored], float], queries: Sequence[str]
  ) -> dict[str, Float[np.ndarray, " N"]]:
    """The mean over each query's videos, by system."""
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
  """The second system minus the first, for each pair, on the same queries.

  Args:
    values: one value per query, by system.

  Returns: for each pair the mean, its 95 % interval by the paired bootstrap, and on how
    many queries the second system wins, ties and loses.
  """
  one_PN = np.stack([values[one] for one, _ in pairs])
  two_PN = np.stack([values[two] for _, two in pairs])
  intervals = paired.intervals(one_PN, two_PN, draws=config.draws, seed=config.seed)
  rows = zip(pairs, two_PN - one_PN, intervals, strict=True)
  return [
    {
      "one": one,
      "two": two,
      "mean": float(difference_N.mean()),
      "low": float(low),
      "high": float(high),
      "wins": int((difference_N > 0).sum()),
      "ties": int((difference_N == 0).sum()),
      "losses": int((difference_N < 0).sum()),
    }
    for (one, two), difference_N, (low, high) in rows
  ]
