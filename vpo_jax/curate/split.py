"""Disjoint splits (paper, section 3.2): SFT and DPO queries, and a test set.

A row's place, a seeded hash of its text, determines its split and its rank there. So
rows never move between splits when other rows are added or removed; a row can only drop
out of its split when rows of a lower rank are added.
"""

import ml_collections
import polars as pl

from vpo_jax import errors

SPLITS = ("sft", "dpo", "test")
CATEGORIES = ("general", "safety")


def assign(
  frame: pl.DataFrame, sizes: ml_collections.ConfigDict
) -> dict[str, pl.DataFrame]:
  """Assigns curated rows to splits.

  Args:
    frame: rows with `place` and `category`, ordered by place.
    sizes: target sizes `sft_general`, `sft_safety`, … `test_safety`. The range of
      places is divided in these proportions within each category.

  Returns:
    A frame for each split, ordered by place. It has fewer rows than its target if its
    range of places has fewer.

  Raises:
    UserError: a split with a target above 0 would be empty.
  """
  splits = {}
  for name in SPLITS:
    parts = [take(frame, name, category, sizes) for category in CATEGORIES]
    splits[name] = pl.concat(parts).sort("place")
    target = sum(sizes[f"{name}_{category}"] for category in CATEGORIES)
    if target and splits[name].is_empty():
      raise errors.UserError(
        f"curate: the {name} split is empty: {len(frame)} rows remained for all splits;"
        f" add queries, relax the rules, or raise config.sizes.{name}_general"
      )
  return splits


def take(
  frame: pl.DataFrame,
  name: str,
  category: str,
  sizes: ml_collections.ConfigDict,
  margin: float = 1.0,
) -> pl.DataFrame:
  """Returns the first rows of a split's range of places in a category.

  Args:
    margin: at most this many times the target size are returned.
  """
  targets = [sizes[f"{split}_{category}"] for split in SPLITS]
  index = SPLITS.index(name)
  if not targets[index]:
    return frame.clear()
  # Integer arithmetic, because places use all 64 bits.
  low = 2**64 * sum(targets[:index]) // sum(targets)
  high = 2**64 * sum(targets[: index + 1]) // sum(targets) - 1
  places = pl.lit(low, pl.UInt64), pl.lit(high, pl.UInt64)
  inside = (pl.col("category") == category) & pl.col("place").is_between(*places)
  return frame.filter(inside).head(int(targets[index] * margin))
