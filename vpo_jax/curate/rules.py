"""Rule-based quality filtering (paper, section 3.2): keywords, characters, length.

A rule takes the config and returns a polars expression over the columns of
`table.SCHEMA`, which is true for the rows to drop. A row is counted under the first
rule that drops it.
"""

import re
import string
from collections.abc import Callable

import ml_collections
import polars as pl

Rule = Callable[[ml_collections.ConfigDict], pl.Expr]

# Letters and digits of any script, white space, and common punctuation.
_ORDINARY = r"[\p{L}\p{M}\p{N}\s.,;:!?'’‘\"“”()\-–—/&%+=。，、！？：；（）「」।]"
_URL = r"(?i)https?:|www\.|\b[\w-]+\.(?:com|net|org|io)\b"


def too_short(config: ml_collections.ConfigDict) -> pl.Expr:
  """Has fewer than `min_words` words, without flags."""
  return pl.col("words") < config.min_words


def too_long(config: ml_collections.ConfigDict) -> pl.Expr:
  """Has more than `max_words` words, without flags."""
  return pl.col("words") > config.max_words


def too_many_tokens(config: ml_collections.ConfigDict) -> pl.Expr:
  """Has more than `max_tokens` tokens, if the config names a tokenizer."""
  return pl.col("tokens") > config.max_tokens


def special_characters(config: ml_collections.ConfigDict) -> pl.Expr:
  """Has a share above `max_special` of unusual characters."""
  length = pl.col("text").str.len_chars()
  ordinary = pl.col("text").str.count_matches(_ORDINARY)
  return (length - ordinary) > config.max_special * length


def url(config: ml_collections.ConfigDict) -> pl.Expr:
  """Contains a web address, if `drop_urls` is set."""
  return pl.lit(bool(config.drop_urls)) & pl.col("text").str.contains(_URL)


def keyword(config: ml_collections.ConfigDict) -> pl.Expr:
  """Contains one of `keywords`, ignoring case."""
  if not config.keywords:
    return pl.lit(value=False)
  words = list(config.keywords)
  return pl.col("text").str.contains_any(words, ascii_case_insensitive=True)


def language(config: ml_collections.ConfigDict) -> pl.Expr:
  """Is in another language than `languages` (ISO 639-1 codes), if any are given.

  A query whose language is unsure passes.
  """
  if not config.languages:
    return pl.lit(value=False)
  return ~pl.col("language").is_in([*config.languages, UNSURE])


def repeated_words(config: ml_collections.ConfigDict) -> pl.Expr:
  """Has five or more words, of which a share below `min_distinct` are distinct."""
  words = pl.col("words")
  return (words >= 5) & (pl.col("distinct") < config.min_distinct * words)


def repeated_characters(config: ml_collections.ConfigDict) -> pl.Expr:
  """Repeats a letter or punctuation mark `max_run` or more times in a row."""
  marks = string.ascii_lowercase + "!?.,#@*~_"
  runs = "|".join(f"{re.escape(mark)}{{{config.max_run},}}" for mark in marks)
  return pl.col("text").str.contains(f"(?i){runs}")


# The language's code if the detector is unsure.
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
  """Returns the name of the first rule that drops a row, or null."""
  return pl.coalesce(
    pl.when(rule(config)).then(pl.lit(rule.__name__)) for rule in RULES
  )
