import dataclasses
import itertools

import ml_collections
import pytest

from configs import video_pairs
from vpo_jax import errors, records
from vpo_jax.feedback import pairing

WEIGHTS = (1.0, 0.4, 0.3, 0.2, 0.05)


def _scored(index, yes, query="q", seed=0):
  reward = sum(w for y, w in zip(yes, WEIGHTS, strict=True) if y)
  answers = tuple(bool(y) for y in yes)
  return records.Scored(
    query, query, index, f"p{index}", f"v{index}", seed, reward, 0.0, {}, answers, {}
  )


def _rules(**changes):
  rules = ml_collections.ConfigDict(video_pairs.get_config().rules.to_dict())
  rules.update(changes)
  return rules


def _chosen(pairs):
  return [(pair.chosen, pair.rejected, pair.margin) for pair in pairs]


# Rewards 0.2, 1.0, 1.7, 0.95: p1 and p2 are above p0 by enough, but p1 lacks p0's yes.
ROWS = [
  _scored(0, (0, 0, 0, 1, 0)),
  _scored(1, (1, 0, 0, 0, 0)),
  _scored(2, (1, 1, 1, 0, 0)),
  _scored(3, (0, 1, 1, 1, 1)),
]


def test_the_default_takes_the_dominant_pair_of_the_largest_margin():
  assert _chosen(pairing.select(ROWS, _rules())) == [("p3", "p0", 0.75)]
  pairs = pairing.select(ROWS, _rules(one_per_query=False))
  assert _chosen(pairs) == [("p3", "p0", 0.75), ("p2", "p1", 0.7)]


def test_the_release_takes_the_first_in_file_order():
  rules = _rules(order="first")
  assert _chosen(pairing.select(ROWS, rules)) == [("p2", "p1", 0.7)]


def test_without_dominance_the_reward_alone_decides():
  assert _chosen(pairing.select(ROWS, _rules(dominance="none"))) == [("p2", "p0", 1.5)]


def test_dimensions_may_hide_a_worse_question():
  """p2 lacks a yes of p0, but is no worse in either group (VisionReward's rule)."""

  def grouped(row, **groups):
    return dataclasses.replace(row, groups=groups)

  rows = [
    grouped(_scored(0, (0, 0, 0, 1, 0)), look=0.0, text=0.2),
    grouped(_scored(2, (1, 1, 1, 0, 0)), look=1.0, text=0.1 + 0.1),
    grouped(_scored(3, (0, 1, 1, 1, 1)), look=1.0 - 1e-6, text=0.5),
  ]
  rules = _rules(dominance="dimensions", one_per_query=False)
  assert _chosen(pairing.select(rows, rules)) == [("p2", "p0", 1.5), ("p3", "p0", 0.75)]
  rules.dominance = "questions"
  assert _chosen(pairing.select(rows, rules)) == [("p3", "p0", 0.75)]
  rules.dominance = "dimensions"
  with pytest.raises(errors.UserError, match=r'"dimensions": .* have no groups'):
    pairing.select(ROWS, rules)


def test_the_paper_compares_neighbours_in_reward_order():
  rules = _rules(dominance="none", pairing="adjacent", one_per_query=False)
  # 1.7 > 1.0 and 0.95 > 0.2; 1.0 over 0.95 is within the margin.
  assert sorted(_chosen(pairing.select(ROWS, rules))) == [
    ("p2", "p1", 0.7),
    ("p3", "p0", 0.75),
  ]


def test_the_margin_is_to_be_exceeded():
  rows = [_scored(0, (0, 0, 1, 1, 0)), _scored(1, (1, 0, 0, 0, 0))]  # 0.5 and 1.0
  assert pairing.select(rows, _rules(dominance="none")) == []
  assert len(pairing.select(rows, _rules(dominance="none", margin=0.49))) == 1


def test_queries_never_mix_and_each_gives_one_pair():
  rows = [
    _scored(k, yes, query=query)
    for query, (k, yes) in itertools.product(
      "abc", enumerate([(0, 0, 0, 0, 0), (1, 1, 1, 1, 1), (0, 1, 1, 0, 0)])
    )
  ]
  pairs = pairing.select(rows[::-1], _rules())
  assert sorted(pair.query for pair in pairs) == ["a", "b", "c"]
  assert {(pair.chosen, pair.rejected) for pair in pairs} == {("p1", "p0")}
  assert {pair.source for pair in pairs} == {"video"}


def test_several_videos_of_a_prompt_count_by_their_mean():
  rows = [
    _scored(0, (1, 0, 0, 0, 0), seed=0),
    _scored(0, (0, 0, 0, 0, 0), seed=1),
    _scored(0, (0, 1, 0, 0, 0), seed=2),
    _scored(1, (1, 1, 1, 1, 1)),
  ]
  mean = pairing.mean_over_seeds(rows)
  assert [row.index for row in mean] == [0, 1]
  assert mean[0].reward == pytest.approx((1.0 + 0 + 0.4) / 3)
  assert mean[0].yes == (False,) * 5


def test_named_rewards_take_the_place_of_answers():
  def scalar(index, **values):
    return records.Scored(
      "q", "q", index, f"p{index}", "v", 0, sum(values.values()), 0, values, (), values
    )

  rows = [scalar(0, motion=1.0, quality=0.0), scalar(1, motion=0.5, quality=2.0)]
  assert pairing.select(rows, _rules()) == []
  rows.append(scalar(2, motion=1.0, quality=2.0))
  assert _chosen(pairing.select(rows, _rules())) == [("p2", "p0", 2.0)]
