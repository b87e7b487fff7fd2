"""Rule-based quality filtering (paper, section 3.2): keywords, characters, length.

A rule is a function of its config that returns a polars expression, true for a row to
drop. A row is counted under the first rule that drops it. The columns that rules may
use are those of `table.SCHEMA`.
"""

import re
import string
from collections.abc import Callable

import ml_collections
import polars as pl

Rule = Callable[[ml_collections.ConfigDict], pl.Expr]

# Letters and figures of any script, white space, and the marks of ordinary writing.
_ORDINARY = r"[\p{L}\p{M}\p{N}\s.,;:!?'’‘\"“”()\-–—/&%+=。，、！？：；（）「」।]"
_URL = r"(?i)https?:|www\.|\b[\w-]+\.(?:com|net|org|io)\b"


def too_short(config: ml_collections.ConfigDict) -> pl.Expr:
  """Fewer than `min_words` words, flags not counted."""
  return pl.col("words") < config.min_words


def too_long(config: ml_collections.ConfigDict) -> pl.Expr:
  """More than `max_words` words."""
  return pl.col("words") > config.max_words


def too_many_tokens(config: ml_collections.ConfigDict) -> pl.Expr:
  """More than `max_tokens` tokens of the tokenizer that the config names, if any."""
  return pl.col("tokens") > config.max_tokens


def special_characters(config: ml_collections.ConfigDict) -> pl.Expr:
  """A share above `max_special` of characters that ordinary writing does not use."""
  length = pl.col("text").str.len_chars()
  ordinary = pl.col("text").str.count_matches(_ORDINARY)
  return (length - ordinary) > config.max_special * length


def url(config: ml_collections.ConfigDict) -> pl.Expr:
  """Holds a web address; `drop_urls` switches the rule."""
  return pl.lit(bool(config.drop_urls)) & pl.col("text").str.contains(_URL)


def keyword(config: ml_collections.ConfigDict) -> pl.Expr:
  """Holds one of `keywords`, in any case."""
  if not config.keywords:
    return pl.lit(value=False)
  words = list(config.keywords)
  return pl.col("text").str.contains_any(words, ascii_case_insensitive=True)


def language(config: ml_collections.ConfigDict) -> pl.Expr:
  """Is surely in none of `languages` (ISO 639-1 codes); all pass when it is empty."""
  if not config.languages:
    return pl.lit(value=False)
  return ~pl.col("language").is_in([*config.languages, UNSURE])


def repeated_words(config: ml_collections.ConfigDict) -> pl.Expr:
  """Has five words or more, and a share of distinct ones below `min_distinct`."""
  words = pl.col("words")
  return (words >= 5) & (pl.col("distinct") < config.min_distinct * words)


def repeated_characters(config: ml_collections.ConfigDict) -> pl.Expr:
  """Has a run of `max_run` or more of one letter or mark."""
  marks = string.ascii_lowercase + "!?.,#@*~_"
  runs = "|".join(f"{re.escape(mark)}{{{config.max_run},}}" for mark in marks)
  return pl.col("text").str.contains(f"(?i){runs}")


# What the language is called where the detector is not sure of one.
UNSURE = "un"

RULES: tuple[Rule, ...] = (
  too_short,
  too_long,
  too_many_tokens,
  special_characters,
  url,
  keyword,
  language,
  repeated_words,
  repeated_characters,
)


def first(config: ml_collections.ConfigDict) -> pl.Expr:
  """Name of the first rule that drops a row; null where none does."""
  return pl.coalesce(
    pl.when(rule(config)).then(pl.lit(rule.__name__)) for rule in RULES
  )
