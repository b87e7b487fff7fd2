"""Detects answers that are not usable prompts."""

import collections
import re

import pycld2

from vpo_jax import records

# As in the paper, and as the instruction asks, prompts are English for queries in any
# language. "" allows every language.
LANGUAGE = "en"
_MIN_PERCENT = 90  # of the text in another language, according to CLD2
_MIN_BYTES = 50  # of words; CLD2 claims to be reliable on a few names, but is not

# Markers of chat templates and of this project's templates.
_MARKERS = re.compile(
  r"<\|[^|\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|\[\[(?:start|end)\]\]"
  r"|\b(?:User Query|Video Prompt)\s*:",
  re.IGNORECASE,
)
_RUN = re.compile(r"(\S)\1{19}")
_SENTENCE = re.compile(r"[^.!?。！？\n]+")
_WORD = re.compile(r"\w+")


def problem(answer: records.Candidate, language: str = LANGUAGE) -> str | None:
  """Why an answer is unusable, as the end of a sentence "the prompt ..."; or None.

  Args:
    language: code of the required language; "" allows any.
  """
  text = answer.prompt
  if not _WORD.search(text):
    return "is empty"
  if answer.finish_reason == "length":
    return f"breaks off after {answer.tokens} tokens"
  if marker := _MARKERS.search(text):
    return f"leaks the template marker {marker[0]!r}"
  if repeats(text):
    return "repeats itself"
  if language and (other := foreign(text, language)):
    return f"is in {other}, not in {language!r}"
  return None


def foreign(text: str, language: str) -> str | None:
  """The name of the text's language if it is certainly not `language`, else None.

  Short texts, names, and quotations in another language are not certain.
  """
  try:
    reliable, size, languages = pycld2.detect(text)
  except pycld2.error:  # invalid characters
    return None
  name, code, percent, _ = languages[0]
  if not reliable or size < _MIN_BYTES or percent < _MIN_PERCENT:
    return None
  return None if code in (language, "un") else name.capitalize()


def repeats(text: str) -> bool:
  """Whether a character, a sentence or a phrase is repeated too often."""
  if _RUN.search(text):
    return True
  words = [word.lower() for word in _WORD.findall(text)]
  sentences = collections.Counter(
    " ".join(_WORD.findall(sentence.lower())) for sentence in _SENTENCE.findall(text)
  )
  if any(n >= 3 and len(s.split()) >= 3 for s, n in sentences.items()):
    return True
  # In prose, fewer than half of the four-word phrases occurred before.
  phrases = collections.Counter(zip(*(words[i:] for i in range(4)), strict=False))
  return phrases.total() >= 20 and len(phrases) < 0.5 * phrases.total()
