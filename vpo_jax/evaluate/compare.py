"""Stage evaluate: systems side by side on the same queries (paper, tables 1 and 2).

Reads what judging and filming each system's prompts left, and writes results.json for
programs and README.md for people. Only queries count that every system has a video of,
so that all means are over the same queries and their differences are paired.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from vpo_jax import console, errors, files, records, stage
from vpo_jax.describe import page
from vpo_jax.evaluate import paired

NAME = "evaluate"


def folder(workdir: epath.PathLike, system: str) -> epath.Path:
  """Where a system's prompts, judgements and videos lie."""
  return epath.Path(workdir) / "systems" / system


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
  """Compares the systems that `config.systems` names, in its order.

  Raises:
    UserError: fewer than two systems, or no query that all have a video of.
  """
  names = tuple(config.systems)
  if len(names) < 2:
    raise errors.UserError("config.systems: name two or more systems to compare")
  limits = _limits(config.unsafe)
  inputs = {
    f"{name}_{what}": folder(workdir, name) / path
    for name in names
    for what, path in (
      ("candidates", "sample/candidates.jsonl"),
      ("judged", "text_pairs/judged.jsonl"),
      ("scores", "video_pairs/scores.jsonl"),
    )
  }
  work = stage.begin(NAME, config, workdir, inputs)
  if work.counts is not None:
    return work.counts
  scores = {name: _scores(inputs[f"{name}_scores"]) for name in names}
  shared = sorted(set.intersection(*(set(found) for found in scores.values())))
  if not shared:
    raise errors.UserError(
      "evaluate: there is no query that all systems have a video of"
    )
  systems = {
    name: _means([scores[name][query] for query in shared])
    | _text(inputs[f"{name}_judged"])
    | _unsafe(inputs[f"{name}_candidates"], scores[name], limits)
    for name in names
  }
  rewards = {
    name: np.array([np.mean([row.reward for row in found[query]]) for query in shared])
    for name, found in scores.items()
  }
  differences = [
    _difference(one, two, rewards, config)
    for one, two in itertools.combinations(names, 2)
  ]
  results = {"queries": len(shared), "systems": systems, "differences": differences}
  files.write_json(work.folder / "results.json", results)
  page.publish(work.folder, sections(results))
  for row in differences:
    console.say(
      f"{row['two']} - {row['one']}: {row['mean']:+.3f}"
      f" ({row['low']:+.3f} to {row['high']:+.3f})"
    )
  dropped = max(len(found) for found in scores.values()) - len(shared)
  return work.finish({"queries": len(shared), "dropped": dropped})


def sections(results: Mapping[str, Any]) -> list[str]:
  """The page's tables."""
  systems = results["systems"]
  groups = list(next(iter(systems.values()))["groups"])
  means = [
    _line(name, *(f"{row['groups'][g]:.2f}" for g in groups), f"{row['reward']:.2f}")
    for name, row in systems.items()
  ]
  texts = [
    _line(name, _share(row["aligned"]), _share(row["unsafe_videos"]))
    for name, row in systems.items()
  ]
  pairs = [
    _line(
      f"{row['two']} - {row['one']}",
      f"{row['mean']:+.3f}",
      f"{row['low']:+.3f} to {row['high']:+.3f}",
      *(str(row[name]) for name in ("wins", "ties", "losses")),
    )
    for row in results["differences"]
  ]
  return [
    f"# Systems compared on {results['queries']} queries",
    page.table(
      "## Reward (paper, table 1)",
      f"| system | {' | '.join(groups)} | overall |",
      means,
    ),
    page.table(
      "## Text and safety (paper, table 2 and figure 4)",
      "| system | prompts aligned | videos unsafe, of safety-related queries |",
      texts,
    ),
    page.table(
      "## Differences of the reward, 95 % intervals of the paired bootstrap",
      "| systems | mean | interval | wins | ties | losses |",
      pairs,
    ),
  ]


def _line(*cells: str) -> str:
  return f"| {' | '.join(cells)} |"


def _share(value: float | None) -> str:
  return "-" if value is None else f"{100 * value:.1f} %"


def _scores(path: epath.Path) -> dict[str, list[records.Scored]]:
  found: dict[str, list[records.Scored]] = {}
  for row in records.read(path, records.Scored):
    found.setdefault(row.query_id, []).append(row)
  return found


def _means(queries: Sequence[Sequence[records.Scored]]) -> dict[str, Any]:
  """Means over the queries of the means over each query's videos."""
  groups = {
    name: float(
      np.mean([np.mean([row.groups[name] for row in rows]) for rows in queries])
    )
    for name in queries[0][0].groups
  }
  reward = float(np.mean([np.mean([row.reward for row in rows]) for rows in queries]))
  return {"reward": reward, "groups": groups}


def _text(path: epath.Path) -> dict[str, Any]:
  passed = [row.passed for row in records.read(path, records.Judged)]
  return {"aligned": float(np.mean(passed)) if passed else None}


def _unsafe(
  candidates: epath.Path,
  scores: Mapping[str, Sequence[records.Scored]],
  limits: Mapping[str, float],
) -> dict[str, Any]:
  """The share of safety-related queries' videos in which a measure passes its limit."""
  rows = records.read(candidates, records.Candidates)
  asked = [row.query_id for row in rows if row.category == "safety"]
  videos = [row.scalars for query in asked for row in scores.get(query, ())]
  found = [
    any(scalars.get(name, 0.0) > limit for name, limit in limits.items())
    for scalars in videos
  ]
  return {"unsafe_videos": float(np.mean(found)) if found and limits else None}


def _difference(
  one: str,
  two: str,
  rewards: Mapping[str, np.ndarray],
  config: ml_collections.ConfigDict,
) -> dict[str, Any]:
  apart = rewards[two] - rewards[one]
  low, high = paired.interval(apart, draws=config.draws, seed=config.seed)
  return {
    "one": one,
    "two": two,
    "mean": float(apart.mean()),
    "low": low,
    "high": high,
    "wins": int((apart > 0).sum()),
    "ties": int((apart == 0).sum()),
    "losses": int((apart < 0).sum()),
  }


def _limits(rows: Sequence[str]) -> dict[str, float]:
  """The limits in rows such as "splatter 0.03".

  Raises:
    UserError: a row is not a name and a number.
  """
  try:
    return {name: float(value) for name, value in map(str.split, rows)}
  except ValueError as error:
    raise errors.UserError(
      f'config.unsafe={tuple(rows)!r}: wants rows such as "splatter 0.03"'
    ) from error
