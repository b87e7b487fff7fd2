"""Repairs damaged text: HTML entities, control characters, wrong decodings."""

import re

import ftfy

# Characters that ftfy could change. Most queries are plain ASCII and skip it.
_SUSPECT = re.compile(r"[^\x20-\x7e]|&")
_CONFIG = ftfy.TextFixerConfig(
  unescape_html=True,
  # A user's quotes, ligatures and character widths are not damage.
  uncurl_quotes=False,
  fix_latin_ligatures=False,
  fix_character_width=False,
  explain=False,
)


def repair(text: str) -> str:
  """Replaces HTML entities by characters and undoes wrong decodings.

  Also removes control characters, byte order marks and terminal codes, converts line
  ends to "\\n", normalizes to NFC, and strips the text. Undamaged text is only
  stripped.
  """
  if _SUSPECT.search(text):
    text = ftfy.fix_text(text, _CONFIG)
  return text.strip()


def problem(text: str) -> str:
  """Returns why a repaired text is not a valid query, or ""."""
  if not text:
    return "empty"
  if "\ufffd" in text:
    return "damaged: the source lost characters (U+FFFD)"
  return ""
