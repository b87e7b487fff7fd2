"""Which rows are held out of training."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from vpo_jax import records

_Row = TypeVar("_Row")


def split(
  rows: Sequence[_Row], fraction: float, seed: int, key: Callable[[_Row], str]
) -> tuple[list[_Row], list[_Row]]:
  """Training rows and held-out rows, each in their order.

  A row's side depends only on its key and the seed, so a query is on the same side in
  several sets of rows. A side that would be empty gets the key closest to it; a single
  key is never held out.

  Args:
    fraction: expected share of the keys that is held out; 0 holds out none.
    key: of a row, such as its query. Rows of equal keys are on the same side.
  """
  keys = {key(row) for row in rows}
  draws = {one: int(records.row_id("heldout", seed, one), 16) / 16**16 for one in keys}
  limit = 0.0
  if fraction and len(draws) > 1:
    ordered = sorted(draws.values())
    limit = min(max(fraction, ordered[1]), ordered[-1])
  train = [row for row in rows if draws[key(row)] >= limit]
  return train, [row for row in rows if draws[key(row)] < limit]
