"""Pairs follow from the scores and the rules alone."""

import pytest

from configs import video_pairs as video_pairs_config
from vpo_jax import errors, records, stages
from vpo_jax.feedback import video_pairs


@pytest.fixture
def config():
  config = video_pairs_config.get_config()
  config.rules.dominance = "none"
  return config


def write_scores(workdir, queries, rewards):
  """Writes scores of `queries` queries with the same rewards."""
  rows = [
    records.Scored(
      query_id=f"q{q}",
      query=f"query {q}",
      index=k,
      prompt=f"prompt {q} {k}",
      video_id=f"v{q}-{k}",
      seed=0,
      reward=reward,
      signed=0.0,
      groups={"VQ": reward},
      yes=(),
      scalars={"VQ": reward},
    )
    for q in range(queries)
    for k, reward in enumerate(rewards)
  ]
  records.write(workdir / "score_videos" / "scores.jsonl", rows)


def pairs(workdir):
  return list(records.read(workdir / "video_pairs" / "pairs.jsonl", records.Pair))


def test_the_higher_reward_is_preferred_by_enough(config, tmp_path):
  write_scores(tmp_path, 1, (1.0, 3.0, 2.0))
  counts = stages.run(video_pairs.STAGE, config, tmp_path)
  (pair,) = pairs(tmp_path)
  assert (pair.chosen, pair.rejected, pair.margin) == ("prompt 0 1", "prompt 0 0", 2.0)
  assert (counts["videos"], counts["pairs"], counts["margin_mean"]) == (3, 1, 2.0)


def test_a_changed_rule_chooses_again_without_the_videos(config, tmp_path):
  """100 queries with 4 videos, of which only the scores are there."""
  write_scores(tmp_path, 100, (1.0, 3.0, 2.0, 2.75))
  assert stages.run(video_pairs.STAGE, config, tmp_path)["pairs"] == 100
  config.rules.one_per_query, config.rules.margin = False, 0.9
  counts = stages.run(video_pairs.STAGE, config, tmp_path)
  assert counts["pairs"] == len(pairs(tmp_path)) == 400


@pytest.mark.parametrize(
  ("key", "value", "line"),
  [
    ("dominance", "all", "questions, dimensions, none"),
    ("pairing", "random", "every, adjacent"),
    ("order", "last", "best_margin, first"),
  ],
)
def test_unknown_rules_are_one_line(config, tmp_path, key, value, line):
  write_scores(tmp_path, 1, (1.0, 3.0))
  config.rules[key] = value
  with pytest.raises(errors.UserError, match=line):
    stages.run(video_pairs.STAGE, config, tmp_path)
