"""Groups hold every candidate once, with its verdict and its reward."""

import math

import ml_collections
import pytest

from configs import groups as groups_config
from vpo_jax import errors, records, stages
from vpo_jax.feedback import groups
from vpo_jax.train import group_rewards


def candidates(query, prompts):
  rows = [records.Candidate(k, text, "stop", 9) for k, text in enumerate(prompts)]
  return records.Candidates(
    f"id-{query}", query, "general", "model", {}, tuple(rows), ""
  )


def judged(query, index, prompt, refined=None):
  return records.Judged(
    "i", f"id-{query}", query, index, prompt, "", refined is None, refined
  )


def scored(query, index, prompt, reward, seed=0):
  parts = {"clarity": reward}
  return records.Scored(
    f"id-{query}", query, index, prompt, "v", seed, reward, 0.0, parts, (), {}
  )


@pytest.fixture
def workdir(tmp_path):
  """Two queries; of the first's four candidates two are the same text."""
  records.write(
    tmp_path / "sample" / "candidates.jsonl",
    [
      candidates("boat", ["red boat", "blue boat", "red boat", "boat"]),
      candidates("cat", ["a cat", "the cat"]),
      candidates("dog", ["a dog", "a dog"]),
    ],
  )
  records.write(
    tmp_path / "text_pairs" / "judged.jsonl",
    [
      judged("boat", 0, "red boat"),
      judged("boat", 1, "blue boat"),
      judged("boat", 3, "boat", refined="a boat at sea"),
      judged("cat", 0, "a cat"),
    ],
  )
  records.write(
    tmp_path / "score_videos" / "scores.jsonl",
    [
      scored("boat", 0, "red boat", 1.0),
      scored("boat", 0, "red boat", 2.0, seed=1),
      scored("boat", 1, "blue boat", 3.0),
    ],
  )
  return tmp_path


def test_groups(workdir):
  counts = stages.run(groups.STAGE, groups_config.get_config(), workdir)
  assert counts == {
    "groups": 2,
    "left_out": 1,  # the dog: its candidates are the same
    "responses": 5,
    "flawed": 1,
    "with_reward": 2,
    "train": 1,
    "heldout": 1,
  }
  boat, cat = records.read(workdir / "groups" / "groups.jsonl", records.Group)
  red, blue, plain = boat.responses
  assert (red.prompt, red.passed, red.reward) == ("red boat", True, 1.5)
  assert (blue.reward, blue.groups) == (3.0, {"clarity": 3.0})
  assert (plain.passed, plain.reward, plain.refined) == (False, None, "a boat at sea")
  assert [one.passed for one in cat.responses] == [True, None]
  parts = [
    {row.query_id for row in records.read(workdir / "groups" / name, records.Group)}
    for name in ("train.jsonl", "heldout.jsonl")
  ]
  assert parts[0] | parts[1] == {"id-boat", "id-cat"}
  assert not parts[0] & parts[1]


def test_without_verdicts_and_scores(workdir):
  (workdir / "text_pairs" / "judged.jsonl").unlink()
  (workdir / "score_videos" / "scores.jsonl").unlink()
  counts = stages.run(groups.STAGE, groups_config.get_config(), workdir)
  assert (counts["flawed"], counts["with_reward"]) == (0, 0)


def test_no_group_is_one_line(workdir):
  records.write(
    workdir / "sample" / "candidates.jsonl", [candidates("dog", ["a dog", "a dog"])]
  )
  with pytest.raises(
    errors.UserError, match=r"no query in .* two different candidates"
  ):
    stages.run(groups.STAGE, groups_config.get_config(), workdir)


def response(prompt, passed, reward, refined=None):
  return records.Response(0, prompt, passed, refined, reward, {}, {})


def rewards(responses, score=group_rewards.rewards, **config):
  config = {
    "text_feedback": "constraint",
    "text_weight": 1.0,
    "refined": False,
    "threshold": "mean",
  } | config
  group = records.Group("id", "query", "general", "", tuple(responses))
  return dict(score(group, ml_collections.ConfigDict(config)))


def desirable(responses, **config):
  found = rewards(responses, score=group_rewards.desirable, **config)
  return {text: label for text, label in found.items() if not math.isnan(label)}


GROUP = (
  response("good", True, 5.0),
  response("better", True, 7.0),
  response("unseen", True, None),
  response("flawed", False, None, refined="better worded"),
  response("flawed, filmed", False, 9.0),
)


def test_with_the_constraint_nothing_flawed_outranks_what_passed():
  found = rewards(GROUP)
  assert math.isnan(found.pop("unseen"))
  assert found == {"good": 5.0, "better": 7.0, "flawed": 4.0, "flawed, filmed": 4.0}
  assert rewards(GROUP, refined=True)["better worded"] == 6.0
  worse = response("worse", False, 2.0)
  assert rewards([*GROUP, worse])["worse"] == 2.0


def test_without_any_reward_the_verdicts_decide():
  group = [response("a", True, None), response("b", False, None, refined="c")]
  assert rewards(group, refined=True) == {"a": 0.0, "b": -1.0, "c": 0.0}


def test_as_a_term():
  found = rewards(GROUP, text_feedback="term", text_weight=3.0)
  assert found["flawed, filmed"] == 6.0
  assert found["good"] == 5.0
  assert math.isnan(found["flawed"])


def test_without_text_feedback():
  assert rewards(GROUP, text_feedback="none")["flawed, filmed"] == 9.0


def test_desirable_passed_and_is_at_least_the_threshold():
  labels = {"good": 0, "better": 1, "flawed": 0, "flawed, filmed": 0}
  assert desirable(GROUP) == labels
  assert desirable(GROUP, refined=True) == labels | {"better worded": 1}
  assert desirable(GROUP, threshold="4.0") == labels | {"good": 1}
  assert desirable(GROUP, threshold="8.0", refined=True) == (
    labels | {"better": 0, "better worded": 1}
  )
  same = [response(text, True, 0.1) for text in "abc"]
  assert desirable(same) == {"a": 1, "b": 1, "c": 1}


def test_desirable_by_verdicts_or_rewards_alone():
  group = [response("a", True, None), response("b", False, None, refined="c")]
  assert desirable(group, refined=True) == {"a": 1, "b": 0, "c": 1}
  assert desirable(GROUP, text_feedback="none")["flawed, filmed"] == 1
  term = desirable(GROUP, text_feedback="term", text_weight=3.0)
  assert term == {"good": 0, "better": 1, "flawed, filmed": 1}  # 5, 7 and 9 - 3


def test_values_without_meaning_are_refused():
  for changes in ({"text_feedback": "some"}, {"text_weight": -1.0}):
    config = {"text_feedback": "none", "text_weight": 0.0, "threshold": "mean"}
    config |= changes
    with pytest.raises(errors.UserError, match=next(iter(changes))):
      group_rewards.check(ml_collections.ConfigDict(config))
