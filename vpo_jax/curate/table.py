"""From raw rows to a table: repaired texts, their measures, and the rules' verdicts.

`measure` is a pure function of a batch of rows, so that batches may be made anywhere
and in any order; what compares rows with each other is in `near` and `bleu`.
"""

from collections.abc import Iterable, Sequence

import ml_collections
import polars as pl

from vpo_jax import records
from vpo_jax.curate import flags, language, repair, rules, sources

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
    "place": pl.UInt64(),  # seeded hash of `id`: the row's place in every order
    "reason": pl.String(),  # why it was dropped or set aside; null when kept
    "aside": pl.Boolean(),  # it was not a query at all
  }
)
# A letter of a script that is written without spaces is a word.
WORD = (
  r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}]\p{M}*"
  r"|[\p{L}\p{N}\p{M}]+"
)
FLAGS = ("keep", "drop", "move")


def measure(
  raws: Sequence[sources.Raw], config: ml_collections.ConfigDict
) -> pl.DataFrame:
  """Repairs and measures raw rows; applies the rules.

  Args:
    raws: rows as a source gave them.
    config: the stage's config; `flags`, `rules`, `safety`, `max_characters`, `seed`.

  Returns:
    One row per raw row, in its order, in the columns of `SCHEMA`.
  """
  frame = pl.DataFrame([_row(raw, config) for raw in raws], schema=SCHEMA)
  frame = frame.with_columns(key=_key(pl.col("bare")))
  found = words(pl.col("key"))
  frame = frame.with_columns(words=found.list.len(), distinct=found.list.n_unique())
  return frame.with_columns(
    reason=pl.coalesce("reason", rules.first(config.rules))
  ).cast(SCHEMA)


def _row(raw: sources.Raw, config: ml_collections.ConfigDict) -> dict[str, object]:
  if raw.problem or len(raw.text) > config.max_characters:
    return _aside(raw.text, raw.problem or f"{len(raw.text)} characters long")
  whole = repair.repair(raw.text)
  if problem := repair.beyond(whole):
    return _aside(whole, problem)
  bare, moved = flags.part(whole)
  text = whole if config.flags == "keep" else bare
  identity = records.row_id(text)
  score = max(raw.scores, default=None)
  return {
    "id": identity,
    "text": text,
    "flags": moved if config.flags == "move" else "",
    "bare": bare,
    "category": raw.category or _category(score, config.safety),
    "score": score,
    "language": language.detect(bare),
    "place": int(records.row_id(config.seed, identity), 16),
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


def _category(score: float | None, config: ml_collections.ConfigDict) -> str:
  return "safety" if score is not None and score >= config.min_score else "general"


def _key(text: pl.Expr) -> pl.Expr:
  plain = text.str.normalize("NFKC").str.to_lowercase()
  return plain.str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ").str.strip_chars()


def words(key: pl.Expr) -> pl.Expr:
  """The words of a row's `key`, as a list."""
  return key.str.extract_all(WORD)


def queries(frame: pl.DataFrame) -> Iterable[records.Query]:
  """The rows of a table as the queries that stages exchange."""
  for row in frame.select("id", "text", "category", "flags").iter_rows():
    yield records.Query(*row)


def set_aside(frame: pl.DataFrame) -> Iterable[records.SetAside]:
  """The rows of a table that are no queries, with the reason."""
  for row in frame.filter("aside").select("id", "text", "reason").iter_rows():
    yield records.SetAside(*row)
