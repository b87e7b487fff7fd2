"""The last table of a run says what was measured, and only that."""

import collections

from vpo_jax.evaluate import report


def counts():
  """What every stage reports: zeros."""
  return collections.defaultdict(lambda: collections.defaultdict(float))


def test_losses_that_were_not_measured_are_said_to_be_so():
  """Nothing was held out from training."""
  none = counts()
  for name in ("train_sft", "train_dpo"):
    none[name] |= {"loss_before": None, "loss_after": None, "pairs": 9}
  none["train_dpo"] |= {"reward_accuracy": None, "reward_margin": None}
  shown = dict(report.lines(none))
  assert shown["SFT loss"] == "not measured (no held-out examples)"
  assert shown["DPO loss"] == "not measured (9 pairs, none held out)"
  assert not {"reward accuracy", "reward margin"} & set(shown)


def test_rewards_of_the_test_queries_are_shown_where_they_were_measured():
  assert report.lines(counts())[-1][0] == "reward margin"
  compared = counts() | {
    "evaluate": {
      "queries": 40,
      "reward": {"original": 2.5, "sft": 3.0, "vpo": 3.25},
      "differences": [
        {"one": "sft", "two": "vpo", "mean": 0.25, "low": 0.125, "high": 0.5}
      ],
    }
  }
  assert report.lines(compared)[-2:] == [
    (
      "video reward",
      "original 2.500, sft 3.000, vpo 3.250 (means over 40 test queries)",
    ),
    ("vpo - sft", "+0.250, 95 % interval +0.125 to +0.500"),
  ]


def test_training_on_groups_has_rows_of_its_own():
  groups = counts()
  groups["groups"] |= {"groups": 5, "responses": 17}
  groups["train_groups"] |= {"loss_before": 1.5, "loss_after": 1.25, "steps": 3}
  assert report.lines(groups)[-2:] == [
    ("groups", "5 with 17 candidates"),
    ("loss on groups", "1.5000 before, 1.2500 after (3 steps)"),
  ]
