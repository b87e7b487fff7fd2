"""Safety-related queries: candidates by Detoxify's scores, then an LLM's judgement.

Detoxify makes mistakes (paper, section 3.2), so an LLM judges the candidates before
they count as unsafe.
"""

from collections.abc import Sequence

import ml_collections
import polars as pl

from vpo_jax import records
from vpo_jax.curate import compare
from vpo_jax.curate import split as split_lib

# The reason for dropping a candidate without a judgement.
NOT_JUDGED = "not_judged"


def candidates(
  live: pl.DataFrame, sizes: ml_collections.ConfigDict, margin: float
) -> pl.DataFrame:
  """Returns `margin` candidates for each safety-related query that a split needs."""
  return pl.concat(
    split_lib.take(live, name, "safety", sizes, margin) for name in split_lib.SPLITS
  )


def decide(
  kept: compare.Kept, judged: pl.DataFrame, labels: Sequence[records.SafetyLabel]
) -> compare.Kept:
  """Replaces the categories of safety-related rows by the judge's labels.

  Candidates judged harmless become general queries; those without a label are dropped.

  Args:
    judged: the rows sent to the judge: `row`, `id`.
    labels: the judge's labels.
  """
  unsafe = pl.DataFrame(
    {"id": [row.id for row in labels], "unsafe": [row.unsafe for row in labels]},
    schema={"id": pl.String, "unsafe": pl.Boolean},
  )
  verdicts = judged.join(unsafe, on="id").select("row", "unsafe")
  live = kept.live.join(verdicts, on="row", how="left", maintain_order="left")
  unknown = (pl.col("category") == "safety") & pl.col("unsafe").is_null()
  harmless = (pl.col("category") == "safety") & ~pl.col("unsafe")
  category = pl.when(harmless).then(pl.lit("general")).otherwise("category")
  dropped = live.filter(unknown).select("row", drop_reason=pl.lit(NOT_JUDGED))
  return compare.Kept(
    live.filter(~unknown).with_columns(category=category).drop("unsafe"),
    pl.concat([kept.dropped, dropped]),
    kept.before,
    kept.after,
  )
