"""What compares rows with each other: duplicates, near-duplicates, diversity.

Rows are taken in the order of their places, so that of two rows alike the same one
stays whatever the order of the input.
"""

import dataclasses

import ml_collections
import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from vpo_jax.curate import near
from vpo_jax.describe import bleu
from vpo_jax.describe import words as words_lib

# Why a row that passed the rules can still be dropped.
REASONS = ("duplicate", "near_duplicate", "similar")
# On so many rows the error of the sampled self-BLEU is measured.
_PROBE = 2_000


@dataclasses.dataclass(frozen=True)
class Diversity:
  """Self-BLEU of a set of rows.

  Attributes:
    scores: of each row, against the references of the config.
    error: what they miss of the figure against all other rows, on average; 0 when all
      rows are references.
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
  """What is left of the rows.

  Attributes:
    live: the rows that stay: `row`, `place`, `key`, `category`; ordered by place.
    gone: those that do not, though they passed the rules: `row`, `late` (the reason).
    before, after: diversity before and after its filter.
  """

  live: pl.DataFrame
  gone: pl.DataFrame
  before: Diversity
  after: Diversity


def thin(rows: pl.LazyFrame, config: ml_collections.ConfigDict) -> Kept:
  """Drops rows that are too like others that stay.

  Args:
    rows: measured rows (`table.SCHEMA`), numbered in the column `row`.
    config: the stage's config; `near` and `diversity`.
  """
  live = (
    rows.filter(pl.col("reason").is_null())
    .select("row", "place", "key", "category")
    .collect(engine="streaming")
    # One text may come with two categories: the more careful one stays.
    .sort("place", "category", "row", descending=[False, True, False])
  )
  gone = []

  def drop(mask: Bool[np.ndarray, " N"], reason: str) -> None:
    nonlocal live
    gone.append(live.filter(pl.Series(mask)).select("row", late=pl.lit(reason)))
    live = live.filter(pl.Series(~mask))

  sample, most = config.diversity.references, config.diversity.max_bleu
  drop((~live["key"].is_first_distinct()).to_numpy(), "duplicate")
  drop(near.duplicates(live["key"], config.near), "near_duplicate")
  words = _words(live)
  before = _diversity(words, sample)
  drop(bleu.similar(words, sample, most), "similar")
  after = _diversity(_words(live), sample)
  return Kept(live, pl.concat(gone), before, after)


def _words(live: pl.DataFrame) -> pl.Series:
  return live.select(words_lib.words(pl.col("key"))).to_series()


def _diversity(words: pl.Series, sample: int) -> Diversity:
  scores = bleu.self_bleu(words, sample)
  if len(words) <= sample:
    return Diversity(scores)
  probe = np.arange(min(_PROBE, len(words)))
  missed = bleu.exactly(words, probe) - scores[probe]
  spread = missed.std(ddof=1) / np.sqrt(len(missed))
  return Diversity(scores, float(missed.mean()), float(spread))
