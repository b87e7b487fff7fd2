"""The rules that turn scored videos into preference pairs (paper, section 3.3).

The paper and the release differ. Each rule is a function, and configs/video_pairs.py
chooses among them.
"""

import collections
import dataclasses
import itertools
import statistics
from collections.abc import Callable, Sequence

import ml_collections

from vpo_jax import errors, records
from vpo_jax.feedback import rewards

Two = tuple[records.Scored, records.Scored]


def select(
  scored: Sequence[records.Scored], rules: ml_collections.ConfigDict
) -> list[records.Pair]:
  """D_video by the rules of the config.

  Args:
    scored: all videos. Several videos of one prompt count by their mean reward; a
      question counts as answered yes if it is for more than half of them.
    rules: see configs/video_pairs.py.
  """
  by_query: dict[str, list[records.Scored]] = collections.defaultdict(list)
  for row in mean_over_seeds(scored):
    by_query[row.query_id].append(row)
  return [
    _pair(winner, loser)
    for rows in by_query.values()
    for winner, loser in choose(rows, rules)
  ]


def choose(
  rows: Sequence[records.Scored], rules: ml_collections.ConfigDict
) -> list[Two]:
  """The pairs among videos of one query, or of one prompt; the preferred one first.

  Args:
    rules: see configs/video_pairs.py; `one_per_query` keeps the first pair.
  """
  pairs = {"every": every_pair, "adjacent": adjacent_pairs}[rules.pairing]
  found = [
    (winner, loser)
    for winner, loser in pairs(rows)
    if margin(winner, loser) > rules.margin
    and DOMINANCE[rules.dominance](winner, loser)
  ]
  if rules.order == "best_margin":
    found.sort(key=lambda pair: -margin(*pair))  # stable: equal margins keep file order
  return found[:1] if rules.one_per_query else found


def every_pair(rows: Sequence[records.Scored]) -> list[Two]:
  """All ordered pairs, in file order of the first, then of the second (release)."""
  return list(itertools.permutations(rows, 2))


def adjacent_pairs(rows: Sequence[records.Scored]) -> list[Two]:
  """Pairs of each prompt and the one with the next lower reward (paper)."""
  ranked = sorted(rows, key=lambda row: row.reward)
  return [(upper, lower) for lower, upper in itertools.pairwise(ranked)]


def dominates_on_questions(winner: records.Scored, loser: records.Scored) -> bool:
  """Whether the winner is no worse on any question and better on one (release).

  For a scorer of named rewards, their weighted values take the questions' place.
  """
  if winner.yes:
    return rewards.dominates(winner.yes, loser.yes)
  return dominates_on_dimensions(winner, loser)


def dominates_on_dimensions(winner: records.Scored, loser: records.Scored) -> bool:
  """Whether the winner is no worse in any group's reward and better in one.

  VisionReward's multi-objective preference optimization (arXiv:2412.21059).

  Raises:
    UserError: the scorer's questions have no groups.
  """
  if not winner.groups:
    raise errors.UserError(
      'config.rules.dominance="dimensions": the scored questions have no groups; give'
      ' the scorer a JSON file of questions with groups, or choose "questions"'
    )
  names = winner.groups.keys()
  return rewards.dominates(
    [round(winner.groups[name], 9) for name in names],
    [round(loser.groups[name], 9) for name in names],
  )


# The choices of `rules.dominance`.
DOMINANCE: dict[str, Callable[[records.Scored, records.Scored], bool]] = {
  "questions": dominates_on_questions,
  "dimensions": dominates_on_dimensions,
  "none": lambda winner, loser: True,
}


def margin(winner: records.Scored, loser: records.Scored) -> float:
  """R(winner) - R(loser), rounded so that equal margins compare equal."""
  return round(winner.reward - loser.reward, 9)


def mean_over_seeds(scored: Sequence[records.Scored]) -> list[records.Scored]:
  """One row per prompt: the mean over its videos."""
  by_prompt: dict[tuple[str, int], list[records.Scored]] = collections.defaultdict(list)
  for row in scored:
    by_prompt[row.query_id, row.index].append(row)
  return [_mean(rows) if len(rows) > 1 else rows[0] for rows in by_prompt.values()]


def _mean(rows: Sequence[records.Scored]) -> records.Scored:
  def mean(of: Callable[[records.Scored], float]) -> float:
    return statistics.fmean(of(row) for row in rows)

  return dataclasses.replace(
    rows[0],
    reward=mean(lambda row: row.reward),
    signed=mean(lambda row: row.signed),
    groups={name: mean(lambda row, n=name: row.groups[n]) for name in rows[0].groups},
    scalars={
      name: mean(lambda row, n=name: row.scalars[n]) for name in rows[0].scalars
    },
    yes=tuple(2 * sum(a) > len(rows) for a in zip(*(r.yes for r in rows), strict=True)),
  )


def _pair(winner: records.Scored, loser: records.Scored) -> records.Pair:
  return records.Pair(
    query_id=winner.query_id,
    query=winner.query,
    chosen=winner.prompt,
    rejected=loser.prompt,
    source="video",
    margin=margin(winner, loser),
  )
