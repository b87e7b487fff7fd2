"""From raw rows to a table: repaired texts, their measures, and the rules' verdicts.

`Measure` maps a batch of rows to a batch of a table and knows nothing of other rows, so
batches may be measured anywhere and in any order; what compares rows with each other is
in `compare`.
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
from vpo_jax.curate import flags, language, repair, rules
from vpo_jax.describe import words

SCHEMA = pl.Schema(
  {
    "id": pl.String(),  # hash of `text`
    "text": pl.String(),  # repaired, with its flags as the config wants them
    "flags": pl.String(),  # flags that were moved out of the text
    "bare": pl.String(),  # without flags
    "key": pl.String(),  # `bare` without case, marks and spacing
    "category": pl.String(),  # "general", "safety"
    "score": pl.Float32(),  # largest of Detoxify's scores; null without them
    "language": pl.String(),
    "words": pl.UInt32(),
    "distinct": pl.UInt32(),  # distinct words
    "tokens": pl.UInt32(),  # null without a tokenizer
    "repaired": pl.Boolean(),  # its text was damaged, and is whole now
    "place": pl.UInt64(),  # seeded hash of `id`: the row's place in every order
    "reason": pl.String(),  # why it was dropped or set aside; null when kept
    "aside": pl.Boolean(),  # it was not a query at all
  }
)
FLAGS = ("keep", "drop", "move")


class Measure:
  """Repairs and measures batches of raw rows, and applies the rules."""

  def __init__(self, config: ml_collections.ConfigDict) -> None:
    """Reads what it needs of the stage's config.

    Raises:
      UserError: the tokenizer that the config names cannot be read.
    """
    self._rule = rules.first(config.rules)
    self._tokenizer = _tokenizer(config.rules.tokenizer)
    self._flags: str = config.flags
    self._longest: int = config.max_characters
    limits: dict[str, float] = config.safety.min_score.to_dict()
    self._unsafe = [limits[name] for name in queries_lib.TOXICITY]
    self._seed: int = config.seed

  def __call__(self, raws: Sequence[queries_lib.Raw]) -> pl.DataFrame:
    """One row of `SCHEMA` for each raw row, in its order."""
    frame = pl.DataFrame([self._row(raw) for raw in raws], schema=SCHEMA)
    frame = frame.with_columns(key=words.key(pl.col("bare")))
    found = words.words(pl.col("key"))
    frame = frame.with_columns(words=found.list.len(), distinct=found.list.n_unique())
    if self._tokenizer is not None:
      texts = frame["text"].to_list()
      encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
      frame = frame.with_columns(tokens=pl.Series([len(one.ids) for one in encoded]))
    return frame.with_columns(reason=pl.coalesce("reason", self._rule)).cast(SCHEMA)

  def _row(self, raw: queries_lib.Raw) -> dict[str, object]:
    if raw.problem or len(raw.text) > self._longest:
      return _aside(raw.text, raw.problem or f"{len(raw.text)} characters long")
    # Flags that an earlier curation moved out are parted again, as this one's wants.
    found = f"{raw.text} {raw.flags}" if raw.flags else raw.text
    whole = repair.repair(found)
    if problem := repair.beyond(whole):
      return _aside(whole, problem)
    bare, moved = flags.part(whole)
    text = whole if self._flags == "keep" else bare
    identity = records.row_id(text)
    unsafe = any(map(operator.ge, raw.scores, self._unsafe))
    return {
      "id": identity,
      "text": text,
      "flags": moved if self._flags == "move" else "",
      "bare": bare,
      "category": raw.category or ("safety" if unsafe else "general"),
      "score": max((s for s in raw.scores if not math.isnan(s)), default=None),
      "language": language.detect(bare),
      "repaired": whole != found.strip(),
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
    raise errors.UserError(f"rules.tokenizer={path}: there is no {file.name} there")
  try:
    return tokenizers.Tokenizer.from_str(file.read_text())
  except Exception as error:  # The library raises nothing narrower.
    raise errors.UserError(f"{file}: not a tokenizer: {error}") from error


def queries(frame: pl.DataFrame) -> Iterator[records.Query]:
  """The rows of a table as the queries that stages exchange."""
  for row in frame.select("id", "text", "category", "flags").iter_rows():
    yield records.Query(*row)


def set_aside(frame: pl.DataFrame) -> Iterator[records.SetAside]:
  """Those rows of a table that are no queries, with the reason."""
  for row in frame.filter("aside").select("id", "text", "reason").iter_rows():
    yield records.SetAside(*row)
