"""Measures rows on many machines: a Ray Data pipeline over files (extra `ray`).

The driver cuts the source into parts on a disk or bucket that all machines see; each
part is measured by whichever worker is free and published under its own name, so that
the parts are those of a run on one machine, and a run that was killed measures only
the missing ones. What compares rows with each other needs keys and places alone and
stays with the driver.
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
  """Measures batches of rows; returns the paths of the parts, in order.

  Uses the cluster that RAY_ADDRESS names, or starts Ray on this machine.

  Args:
    batches: rows, and where their part is published.

  Raises:
    UserError: Ray is not installed.
  """
  try:
    import ray
    import ray.data
  except ImportError as error:
    raise errors.UserError('engine="ray" needs pip install "vpo-jax[ray]"') from error
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
    # Ray's types do not know that a row's function may be a class.
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
  """Measures one part after another."""

  def __init__(self, config: ml_collections.ConfigDict) -> None:
    self._measure = table.Measure(config)

  def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
    raw = epath.Path(row["raw"])
    rows: Any = pl.read_parquet(raw.read_bytes()).iter_rows(named=True)
    raws = [queries.Raw(**one | {"scores": tuple(one["scores"])}) for one in rows]
    with files.publish(row["part"], "wb") as file:
      self._measure(raws).write_parquet(file)
    raw.unlink()
    return row
