"""Safety-related queries: candidates by Detoxify's scores, then a judge's word.

Detoxify errs (paper, section 3.2), so a judge, an LLM, looks at the candidates again
before they count as unsafe.
"""

from collections.abc import Sequence

import ml_collections
import polars as pl

from vpo_jax import records
from vpo_jax.curate import compare, halves

# A candidate that no judge was asked about, or gave an answer to.
NOT_JUDGED = "not_judged"


def candidates(
  live: pl.DataFrame, sizes: ml_collections.ConfigDict, margin: float
) -> pl.DataFrame:
  """The candidates that the splits take if one in `margin` is found unsafe."""
  return pl.concat(
    halves.take(live, name, "safety", sizes, margin) for name in halves.SPLITS
  )


def decide(
  kept: compare.Kept, asked: pl.DataFrame, labels: Sequence[records.SafetyLabel]
) -> compare.Kept:
  """Puts the judge's word in the place of the scores.

  A candidate that it finds harmless becomes a general query; one that it was not asked
  about, or gave no answer to, is left out.

  Args:
    asked: the rows that the judge was asked about: `row`, `id`.
  """
  unsafe = pl.DataFrame(
    {"id": [one.id for one in labels], "unsafe": [one.unsafe for one in labels]},
    schema={"id": pl.String, "unsafe": pl.Boolean},
  )
  verdicts = asked.join(unsafe, on="id").select("row", "unsafe")
  live = kept.live.join(verdicts, on="row", how="left", maintain_order="left")
  unknown = (pl.col("category") == "safety") & pl.col("unsafe").is_null()
  harmless = (pl.col("category") == "safety") & ~pl.col("unsafe")
  category = pl.when(harmless).then(pl.lit("general")).otherwise("category")
  left_out = live.filter(unknown).select("row", late=pl.lit(NOT_JUDGED))
  return compare.Kept(
    live.filter(~unknown).with_columns(category=category).drop("unsafe"),
    pl.concat([kept.gone, left_out]),
    kept.before,
    kept.after,
  )
