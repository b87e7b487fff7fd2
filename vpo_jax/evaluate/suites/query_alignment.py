"""Query alignment: whether prompts keep to the principles (paper, table 2).

The paper's 500 queries are not released. By default the run's own held-out queries are
judged; `config.query_alignment.queries` names another file, such as the queries that
the stage select_queries chose and people have checked. No video is rendered.
"""

from collections.abc import Mapping

import ml_collections
from etils import epath

from vpo_jax import queries, stages
from vpo_jax.evaluate.suites import base, measured


def load(
  config: ml_collections.ConfigDict, inputs: Mapping[str, epath.Path]
) -> list[base.Item]:
  """The queries, with their category as label."""
  rows, _ = queries.load(inputs["query_alignment.queries"])
  count = config.query_alignment.count or len(rows)
  return [base.Item(row, {"category": (row.category,)}) for row in rows[:count]]


SUITE = base.Suite(
  name="query_alignment",
  title="query alignment",
  load=load,
  measures=(measured.verdicts,),
  inputs=lambda config: (stages.Input("query_alignment.queries", "curate/test.jsonl"),),
  judged=True,
  rendered=False,
  scored=False,
)
