"""Mends text that was damaged on its way: entities, control characters, encodings."""

import re

import ftfy

# What ftfy could change at all; most queries are plain ASCII and are left alone.
_SUSPECT = re.compile(r"[^\x20-\x7e]|&")
_CONFIG = ftfy.TextFixerConfig(
  unescape_html=True,
  # A user's own choice of quotes, ligatures and widths is not damage.
  uncurl_quotes=False,
  fix_latin_ligatures=False,
  fix_character_width=False,
  explain=False,
)


def repair(text: str) -> str:
  """Turns HTML entities into characters and undoes wrong decodings.

  Control characters, byte order marks and terminal codes go; line ends become "\\n";
  the text is put into Unicode's NFC and stripped. A text that was undamaged comes back
  as it is, stripped.
  """
  if _SUSPECT.search(text):
    text = ftfy.fix_text(text, _CONFIG)
  return text.strip()


def beyond(text: str) -> str:
  """Why a repaired text is no query; "" when it is one."""
  if not text:
    return "empty"
  if "\ufffd" in text:
    return "damaged: characters were lost before it came here (U+FFFD)"
  return ""
