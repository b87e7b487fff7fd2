"""Splits texts of any script into words, as polars expressions."""

from collections.abc import Sequence

import polars as pl

# In scripts written without spaces, each letter counts as a word.
_WORD = (
  r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}]\p{M}*"
  r"|[\p{L}\p{N}\p{M}]+"
)


def normalize(text: pl.Expr) -> pl.Expr:
  """Returns texts in lower case, without punctuation and extra spaces (NFKC)."""
  plain = text.str.normalize("NFKC").str.to_lowercase()
  return plain.str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ").str.strip_chars()


def split(normalized: pl.Expr) -> pl.Expr:
  """Returns the list of words of each normalized text."""
  return normalized.str.extract_all(_WORD)


def of(texts: Sequence[str]) -> pl.Series:
  """Returns the list of words of each text, normalized."""
  frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
  return frame.select(split(normalize(pl.col("text")))).to_series()
