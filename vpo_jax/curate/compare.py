"""Compares rows with each other: duplicates, near-duplicates, diversity.

Rows are processed in the order of `place`, a seeded hash, so the choice of which of two
similar rows is kept does not depend on the order of the input.
"""

import dataclasses

import ml_collections
import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from vpo_jax.curate import near_duplicates
from vpo_jax.describe import bleu
from vpo_jax.describe import words as words_lib

# Reasons for which a row that passed the rules is dropped here.
REASONS = ("held_out", "duplicate", "near_duplicate", "similar")
# The error of the sampled self-BLEU is measured on this many rows.
_PROBE = 2_000


@dataclasses.dataclass(frozen=True)
class Diversity:
  """Self-BLEU of a set of rows.

  Attributes:
    scores: each row's self-BLEU against a sample of `diversity.references` rows.
    error: mean difference from the scores against all other rows; 0 if all rows are
      references.
    error_spread: standard error of `error`, which is measured on some rows only.
  """

  scores: Float[np.ndarray, " N"]
  error: float = 0.0
  error_spread: float = 0.0

  @property
  def mean(self) -> float:
    return float(self.scores.mean()) if self.scores.size else 0.0


@dataclasses.dataclass(frozen=True)
class Kept:
  """The rows that are kept.

  Attributes:
    live: the rows kept: `row`, `place`, `key`, `category`; ordered by place.
    dropped: rows that passed the rules but are dropped: `row`, `drop_reason`.
    before, after: diversity before and after the diversity filter.
  """

  live: pl.DataFrame
  dropped: pl.DataFrame
  before: Diversity
  after: Diversity


def drop_similar(
  rows: pl.LazyFrame, held_out: pl.Series, config: ml_collections.ConfigDict
) -> Kept:
  """Drops rows that are equal or too similar to rows that are kept or held out.

  Args:
    held_out: keys of the texts that must not be trained on, such as a benchmark's.
    rows: measured rows (`table.SCHEMA`) with their number in the column `row`.
    config: the stage's config, of which `near` and `diversity` are used.
  """
  live = (
    rows.filter(pl.col("reason").is_null())
    .select("row", "place", "key", "category")
    .collect(engine="streaming")
    # If a text occurs with both categories, the safety-related row is kept.
    .sort("place", "category", "row", descending=[False, True, False])
  )
  dropped = []

  def drop(mask: Bool[np.ndarray, " N"], reason: str) -> None:
    nonlocal live
    rows = live.filter(pl.Series(mask))
    dropped.append(rows.select("row", drop_reason=pl.lit(reason)))
    live = live.filter(pl.Series(~mask))

  sample, max_bleu = config.diversity.references, config.diversity.max_bleu
  held = live["key"].is_in(held_out.implode()).to_numpy().copy()
  held |= near_duplicates.of_others(live["key"], held_out, config.near)
  drop(held, "held_out")
  drop((~live["key"].is_first_distinct()).to_numpy(), "duplicate")
  drop(near_duplicates.find(live["key"], config.near), "near_duplicate")
  words = _words(live)
  before = _diversity(words, sample)
  drop(bleu.similar(words, sample, max_bleu), "similar")
  after = _diversity(_words(live), sample)
  return Kept(live, pl.concat(dropped), before, after)


def _words(live: pl.DataFrame) -> pl.Series:
  return live.select(words_lib.split(pl.col("key"))).to_series()


def _diversity(words: pl.Series, sample: int) -> Diversity:
  scores = bleu.self_bleu(words, sample)
  if len(words) <= sample:
    return Diversity(scores)
  probe = np.arange(min(_PROBE, len(words)))
  errors = bleu.exact_self_bleu(words, probe) - scores[probe]
  spread = errors.std(ddof=1) / np.sqrt(len(errors))
  return Diversity(scores, float(errors.mean()), float(spread))
