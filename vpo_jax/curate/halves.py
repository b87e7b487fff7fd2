"""The disjoint halves (paper, section 3.2): SFT and DPO queries, and a test set.

A row's place, a seeded hash of its text, says which split it can be in and how early it
is taken, so a row never moves from one split to another when rows come or go elsewhere:
it can only be crowded out of its own.
"""

import ml_collections
import numpy as np
import polars as pl

from vpo_jax import errors

SPLITS = ("sft", "dpo", "test")
CATEGORIES = ("general", "safety")


def split(
  frame: pl.DataFrame, sizes: ml_collections.ConfigDict
) -> dict[str, pl.DataFrame]:
  """Takes the splits from curated rows.

  Args:
    frame: rows with `place` and `category`.
    sizes: how many rows `sft_general`, `sft_safety`, … `test_safety` want; a category's
      range of places is shared out in these proportions.

  Returns:
    A frame for each split, ordered by place, with as many of the rows it wants as there
    are in its share.

  Raises:
    UserError: a split that wants rows would be empty.
  """
  frame = frame.sort("place")
  shares = {category: _shares(category, sizes) for category in CATEGORIES}
  splits = {}
  for number, name in enumerate(SPLITS):
    parts = []
    for category in CATEGORIES:
      low, high = shares[category][number : number + 2]
      inside = (pl.col("category") == category) & pl.col("place").is_between(
        pl.lit(low, pl.UInt64), pl.lit(high, pl.UInt64), closed="left"
      )
      parts.append(frame.filter(inside).head(sizes[f"{name}_{category}"]))
    splits[name] = pl.concat(parts).sort("place")
    wanted = sum(sizes[f"{name}_{category}"] for category in CATEGORIES)
    if wanted and splits[name].is_empty():
      raise errors.UserError(
        f"curate: the {name} split is empty: {len(frame)} rows were left for all"
        " splits; give more queries, loosen the rules, or raise"
        f" sizes.{name}_general"
      )
  return splits


def _shares(category: str, sizes: ml_collections.ConfigDict) -> list[int]:
  """Where each split's range of places begins; the last ends with the last place."""
  wanted = [sizes[f"{name}_{category}"] for name in SPLITS]
  ends = np.cumsum([0, *wanted]) / max(sum(wanted), 1)
  return [min(int(end * 2**64), 2**64 - 1) for end in ends]
