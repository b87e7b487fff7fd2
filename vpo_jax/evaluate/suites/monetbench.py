"""MonetBench: prompts of VisionReward's benchmark (paper, tables 1, 4 and 6).

The prompts are a Parquet file of the data set zai-org/VisionRewardDB-Video on Hugging
Face. Other columns with few different texts are kept as labels, so that the report has
the rewards by category and challenge.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections
import polars as pl
from etils import epath

from vpo_jax import errors, records, stages
from vpo_jax.evaluate.suites import base, measured

_PROMPT = ("prompt", "text", "query", "caption")
_MOST_VALUES = 64  # a column with more values names the rows and is no label


def load(
  config: ml_collections.ConfigDict, inputs: Mapping[str, epath.Path]
) -> list[base.Item]:
  """The benchmark's prompts with their other columns as labels.

  Raises:
    UserError: the file is not Parquet, or no column or several may be the prompts.
  """
  path = inputs["monetbench.prompts"]
  try:
    frame = pl.read_parquet(path.read_bytes())
  except (pl.exceptions.PolarsError, OSError) as error:
    line = str(error).splitlines()[0]
    raise errors.UserError(f"{path}: cannot be read as Parquet: {line}") from error
  column = _prompt_column(frame, path)
  texts = frame[column].to_list()
  for number, text in enumerate(texts):
    if not isinstance(text, str) or not text.strip():
      raise errors.UserError(f"{path}: row {number}: column {column!r} holds no prompt")
  labels = [name for name in frame.columns if name != column and _is_label(frame[name])]
  found: dict[str, base.Item] = {}
  for row in frame.iter_rows(named=True):
    query = records.Query(records.row_id(row[column]), row[column])
    values = {name: _values(row[name]) for name in labels}
    found.setdefault(query.id, base.Item(query, values))
  return list(found.values())


def _prompt_column(frame: pl.DataFrame, path: epath.Path) -> str:
  texts = [name for name, kind in frame.schema.items() if kind == pl.String]
  found = [name for name in _PROMPT if name in texts]
  if found:
    return found[0]
  if len(texts) == 1:
    return texts[0]
  raise errors.UserError(
    f"{path}: no column is named {' or '.join(_PROMPT)}; it has"
    f" {', '.join(frame.columns)}"
  )


def _is_label(column: pl.Series) -> bool:
  """Whether the column has few different texts, or lists of them, that repeat."""
  if isinstance(column.dtype, pl.List):
    column = column.explode()
  most = min(_MOST_VALUES, len(column) - 1)
  return column.dtype in (pl.String, pl.Boolean) and column.n_unique() <= most


def _values(value: Any) -> tuple[str, ...]:
  if value is None:
    return ()
  values = value if isinstance(value, list) else [value]
  return tuple(str(one) for one in values if one is not None and str(one).strip())


def _inputs(config: ml_collections.ConfigDict) -> tuple[stages.Input, ...]:
  return (stages.Input("monetbench.prompts"),)


SUITE = base.Suite(
  name="monetbench",
  title="MonetBench",
  load=load,
  measures=(measured.rewards, measured.cut_prompts),
  inputs=_inputs,
)
