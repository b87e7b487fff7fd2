import pytest

from vpo_jax.data import heldout


def _split(rows, fraction, seed=0):
  return heldout.split(rows, fraction, seed, key=lambda row: row[0])


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.99])
def test_no_key_is_on_both_sides_and_no_row_is_lost(fraction):
  rows = [(f"q{n // 3}", n) for n in range(90)]
  train, held = _split(rows, fraction)
  assert not {key for key, _ in train} & {key for key, _ in held}
  assert sorted(train + held) == sorted(rows)
  assert train == [row for row in rows if row in train]
  assert bool(held) == (fraction > 0)
  assert train


def test_a_rows_side_does_not_depend_on_other_rows():
  rows = [(f"q{n}", n) for n in range(1000)]
  train, held = _split(rows, 0.1)
  assert 60 < len(held) < 140
  fewer_train, fewer_held = _split(rows[:500], 0.1)
  assert set(fewer_train) <= set(train)
  assert set(fewer_held) <= set(held)
  assert _split(rows, 0.1, seed=1)[1] != held


def test_with_few_keys_each_side_has_one():
  rows = [("a", 0), ("b", 1), ("c", 2)]
  assert [len(side) for side in _split(rows, 0.001)] == [2, 1]
  assert [len(side) for side in _split(rows, 0.999)] == [1, 2]
  assert [len(side) for side in _split(rows[:1], 0.5)] == [1, 0]
  assert _split([], 0.5) == ([], [])
