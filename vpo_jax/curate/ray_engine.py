"""Measures rows on several machines with Ray Data (extra `ray`).

The driver splits the source into parts on a disk or bucket that all machines share.
Workers measure parts and publish each as its own file, so the parts equal those of a
run on one machine, and a continued run measures only the missing ones. Comparing rows
with each other needs only their keys and places and stays on the driver.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import ml_collections
import polars as pl
from etils import epath

from vpo_jax import errors, files, queries
from vpo_jax.curate import table


def measure(
  batches: Iterable[tuple[epath.Path, Sequence[queries.Raw]]],
  config: ml_collections.ConfigDict,
) -> list[str]:
  """Measures batches of rows; returns the paths of their parts, in order.

  Uses the cluster at RAY_ADDRESS, or starts Ray on this machine.

  Args:
    batches: the path of each part, and its rows.

  Raises:
    UserError: Ray is not installed.
  """
  try:
    import ray
    import ray.data
  except ImportError as error:
    raise errors.UserError(
      'config.engine="ray" needs pip install "vpo-jax[ray]"'
    ) from error
  parts, todo = [], []
  for part, batch in batches:
    parts.append(str(part))
    if not part.exists():
      raw = part.parent / f"raw-{part.name}"
      with files.publish(raw, "wb") as file:
        pl.DataFrame(batch, schema=_RAW).write_parquet(file)
      todo.append({"raw": str(raw), "part": str(part)})
  if todo:
    if not ray.is_initialized():
      ray.init(log_to_driver=False)
    # Ray's type annotations do not allow a class as the row function.
    rows: Any = ray.data.from_items(todo, override_num_blocks=len(todo))
    rows.map(
      _Worker, fn_constructor_args=(config,), concurrency=(1, len(todo))
    ).materialize()
  return parts


_RAW = pl.Schema(
  {
    "text": pl.String(),
    "category": pl.String(),
    "scores": pl.List(pl.Float64()),
    "problem": pl.String(),
    "id": pl.String(),
    "flags": pl.String(),
  }
)


class _Worker:
  """A Ray actor that measures parts."""

  def __init__(self, config: ml_collections.ConfigDict) -> None:
    self._measure = table.Measure(config)

  def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
    raw = epath.Path(row["raw"])
    rows: Any = pl.read_parquet(raw.read_bytes()).iter_rows(named=True)
    raws = [queries.Raw(**row | {"scores": tuple(row["scores"])}) for row in rows]
    with files.publish(row["part"], "wb") as file:
      self._measure(raws).write_parquet(file)
    raw.unlink()
    return row
