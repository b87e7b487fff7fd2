import polars as pl
import pytest

from configs import curate as curate_config
from vpo_jax import errors, records
from vpo_jax.curate import split


def _frame(numbers):
  return pl.DataFrame(
    {
      "place": [int(records.row_id(0, number), 16) for number in numbers],
      "category": ["safety" if number % 10 == 0 else "general" for number in numbers],
      "number": list(numbers),
    },
    schema_overrides={"place": pl.UInt64},
  )


def _sizes(**targets):
  sizes = curate_config.get_config().sizes
  sizes.update(dict.fromkeys(sizes, 0))
  sizes.update(targets)
  return sizes


_SIZES = {
  "sft_general": 50,
  "sft_safety": 5,
  "dpo_general": 30,
  "dpo_safety": 5,
  "test_general": 10,
  "test_safety": 2,
}


def test_splits_are_disjoint_and_have_the_target_sizes():
  splits = split.assign(_frame(range(1000)), _sizes(**_SIZES))
  for name, part in splits.items():
    for category in split.CATEGORIES:
      size = part.filter(category=category).height
      assert size == _SIZES[f"{name}_{category}"], (name, category)
  numbers = pl.concat(part["number"] for part in splits.values())
  assert numbers.n_unique() == len(numbers)


def test_a_row_never_moves_to_another_split_when_rows_are_added():
  before = split.assign(_frame(range(500)), _sizes(**_SIZES))
  after = split.assign(_frame(range(900)), _sizes(**_SIZES))
  where = {n: name for name, part in before.items() for n in part["number"]}
  moved = [
    n
    for name, part in after.items()
    for n in part["number"]
    if where.get(n, name) != name
  ]
  assert moved == []


def test_too_few_rows_are_divided_in_proportion():
  splits = split.assign(_frame(range(200)), _sizes(sft_general=9000, dpo_general=3000))
  assert len(splits["sft"]) + len(splits["dpo"]) == 180  # all general ones
  assert 115 < len(splits["sft"]) < 155


def test_an_empty_split_is_a_user_error():
  with pytest.raises(errors.UserError, match="dpo split is empty"):
    split.assign(_frame(range(1, 5)), _sizes(sft_general=9000, dpo_general=1))
