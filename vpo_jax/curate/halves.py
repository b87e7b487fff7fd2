"""The disjoint halves (paper, section 3.2): SFT and DPO queries, and a test set.

A row's place, a seeded hash of its text, says which split it can be in and how early it
is taken, so a row never moves from one split to another when rows come or go elsewhere:
it can only be crowded out of its own.
"""

import ml_collections
import polars as pl

from vpo_jax import errors

SPLITS = ("sft", "dpo", "test")
CATEGORIES = ("general", "safety")


def split(
  frame: pl.DataFrame, sizes: ml_collections.ConfigDict
) -> dict[str, pl.DataFrame]:
  """Takes the splits from curated rows.

  Args:
    frame: rows with `place` and `category`, ordered by place.
    sizes: how many rows `sft_general`, `sft_safety`, … `test_safety` want; a category's
      range of places is shared out in these proportions.

  Returns:
    A frame for each split, ordered by place, with as many of the rows it wants as there
    are in its share.

  Raises:
    UserError: a split that wants rows would be empty.
  """
  splits = {}
  for name in SPLITS:
    parts = [take(frame, name, category, sizes) for category in CATEGORIES]
    splits[name] = pl.concat(parts).sort("place")
    wanted = sum(sizes[f"{name}_{category}"] for category in CATEGORIES)
    if wanted and splits[name].is_empty():
      raise errors.UserError(
        f"curate: the {name} split is empty: {len(frame)} rows were left for all"
        " splits; give more queries, loosen the rules, or raise"
        f" sizes.{name}_general"
      )
  return splits


def take(
  frame: pl.DataFrame,
  name: str,
  category: str,
  sizes: ml_collections.ConfigDict,
  margin: float = 1.0,
) -> pl.DataFrame:
  """The first rows of one split's share of a category, `margin` times its size."""
  wanted = [sizes[f"{one}_{category}"] for one in SPLITS]
  number = SPLITS.index(name)
  if not wanted[number]:
    return frame.clear()
  # In whole numbers: places use all 64 bits.
  low = 2**64 * sum(wanted[:number]) // sum(wanted)
  high = 2**64 * sum(wanted[: number + 1]) // sum(wanted) - 1
  places = pl.lit(low, pl.UInt64), pl.lit(high, pl.UInt64)
  inside = (pl.col("category") == category) & pl.col("place").is_between(*places)
  return frame.filter(inside).head(int(wanted[number] * margin))
