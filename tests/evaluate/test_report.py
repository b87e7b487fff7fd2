"""The last table of a run says what was measured, and only that."""

import collections

from vpo_jax.evaluate import report


def counts():
  """What every stage reports: zeros."""
  return collections.defaultdict(lambda: collections.defaultdict(float))


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
