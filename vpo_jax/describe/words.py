"""Words of texts of any script, as polars expressions."""

import polars as pl

# A letter of a script that is written without spaces is a word.
_WORD = (
  r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}]\p{M}*"
  r"|[\p{L}\p{N}\p{M}]+"
)


def key(text: pl.Expr) -> pl.Expr:
  """Texts without case, marks and spacing."""
  plain = text.str.normalize("NFKC").str.to_lowercase()
  return plain.str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ").str.strip_chars()


def words(key: pl.Expr) -> pl.Expr:
  """The words of each key, as a list."""
  return key.str.extract_all(_WORD)
