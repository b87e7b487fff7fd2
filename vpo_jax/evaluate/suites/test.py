"""The run's own test queries, which curation held out."""

from collections.abc import Mapping

import ml_collections
from etils import epath

from vpo_jax import queries, stages
from vpo_jax.evaluate.suites import base, measured


def load(
  config: ml_collections.ConfigDict, inputs: Mapping[str, epath.Path]
) -> list[base.Item]:
  """The test queries; safety-related ones are labelled so."""
  rows, _ = queries.load(inputs["queries"])
  return [base.Item(row, {"category": (row.category,)}) for row in rows]


SUITE = base.Suite(
  name="test",
  title="the run's test set",
  load=load,
  measures=(
    measured.verdicts,
    measured.rewards,
    measured.cut_prompts,
    measured.measured_levels,
  ),
  inputs=lambda config: (stages.Input("queries", "curate/test.jsonl"),),
  judged=True,
)
