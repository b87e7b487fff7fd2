"""Converts raw rows to a table: repaired texts, measurements, results of the rules.

`Measure` handles each batch of rows independently, so batches can be measured on any
machine and in any order. `compare` compares rows with each other.
"""

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
import polars as pl
from etils import epath

from vpo_jax import errors, records
from vpo_jax import queries as queries_lib
from vpo_jax.curate import language, repair, rules
from vpo_jax.describe import words
from vpo_jax.promises import query_flags

SCHEMA = pl.Schema(
  {
    "id": pl.String(),  # hash of `text`
    "text": pl.String(),  # repaired; has its flags if the config keeps them
    "flags": pl.String(),  # flags that were moved out of the text
    "bare": pl.String(),  # the repaired text without flags
    "key": pl.String(),  # `bare` in lower case, without punctuation and extra spaces
    "category": pl.String(),  # "general", "safety"
    "score": pl.Float32(),  # largest of Detoxify's scores; null if there are none
    "language": pl.String(),
    "words": pl.UInt32(),
    "distinct": pl.UInt32(),  # distinct words
    "tokens": pl.UInt32(),  # null without a tokenizer
    "repaired": pl.Boolean(),  # whether the text was damaged
    "place": pl.UInt64(),  # seeded hash of `id`, by which rows are ordered
    "reason": pl.String(),  # why it was dropped or set aside; null if kept
    "aside": pl.Boolean(),  # whether the row is not a valid query
  }
)
FLAGS = ("keep", "drop", "move")


class Measure:
  """Repairs and measures batches of raw rows, and applies the rules."""

  def __init__(self, config: ml_collections.ConfigDict) -> None:
    """Reads the stage's config.

    Raises:
      UserError: the config's tokenizer cannot be read.
    """
    self._rule = rules.first(config.rules)
    self._tokenizer = _tokenizer(config.rules.tokenizer)
    self._flags: str = config.flags
    self._max_characters: int = config.max_characters
    min_score: dict[str, float] = config.safety.min_score.to_dict()
    self._min_scores = [min_score[name] for name in queries_lib.TOXICITY]
    self._seed: int = config.seed

  def __call__(self, raws: Sequence[queries_lib.Raw]) -> pl.DataFrame:
    """Returns a row of `SCHEMA` for each raw row, in order."""
    frame = pl.DataFrame([self._row(raw) for raw in raws], schema=SCHEMA)
    frame = frame.with_columns(key=words.normalize(pl.col("bare")))
    split = words.split(pl.col("key"))
    frame = frame.with_columns(words=split.list.len(), distinct=split.list.n_unique())
    if self._tokenizer is not None:
      texts = frame["text"].to_list()
      encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
      frame = frame.with_columns(tokens=pl.Series([len(text.ids) for text in encoded]))
    return frame.with_columns(reason=pl.coalesce("reason", self._rule)).cast(SCHEMA)

  def _row(self, raw: queries_lib.Raw) -> dict[str, object]:
    if raw.problem or len(raw.text) > self._max_characters:
      return _aside(raw.text, raw.problem or f"{len(raw.text)} characters long")
    # Flags that an earlier curation moved out are handled as this config says.
    original = f"{raw.text} {raw.flags}" if raw.flags else raw.text
    repaired = repair.repair(original)
    if problem := repair.problem(repaired):
      return _aside(repaired, problem)
    bare, found = query_flags.split(repaired)
    text = repaired if self._flags == "keep" else bare
    identity = records.row_id(text)
    unsafe = any(map(operator.ge, raw.scores, self._min_scores))
    return {
      "id": identity,
      "text": text,
      "flags": found if self._flags == "move" else "",
      "bare": bare,
      "category": raw.category or ("safety" if unsafe else "general"),
      "score": max((s for s in raw.scores if not math.isnan(s)), default=None),
      "language": language.detect(bare),
      "repaired": repaired != original.strip(),
      "place": int(records.row_id(self._seed, identity), 16),
      "aside": False,
    }


def _aside(text: str, reason: str) -> dict[str, object]:
  return {
    "id": records.row_id(text),
    "text": text[:200],
    "category": "general",
    "reason": reason,
    "aside": True,
  }


def _tokenizer(path: str) -> Any:
  if not path:
    return None
  import tokenizers

  file = epath.Path(path)
  file = file / "tokenizer.json" if file.is_dir() else file
  if not file.exists():
    raise errors.UserError(f"config.rules.tokenizer={path}: {file} does not exist")
  try:
    return tokenizers.Tokenizer.from_str(file.read_text())
  except Exception as error:  # The library raises no narrower type.
    raise errors.UserError(f"{file}: not a tokenizer: {error}") from error


def queries(frame: pl.DataFrame) -> Iterator[records.Query]:
  """Yields the rows of a table as queries."""
  for row in frame.select("id", "text", "category", "flags").iter_rows():
    yield records.Query(*row)


def set_aside(frame: pl.DataFrame) -> Iterator[records.SetAside]:
  """Yields the rows of a table that are not valid queries, with the reason."""
  for row in frame.filter("aside").select("id", "text", "reason").iter_rows():
    yield records.SetAside(*row)
