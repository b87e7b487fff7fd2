"""What must not be passed on silently: an answer that is no prompt."""

import collections
import re

import pycld2

from vpo_jax import records

# Prompts are in English whatever the query is in: the paper's are, and the instruction
# asks for it. "" lets every language pass.
LANGUAGE = "en"
_FOREIGN = 90  # percent of a text, by CLD2, where that is sure of itself
_ENOUGH = 50  # bytes of words; of a few names it is sure as well, and wrong

# Markers of chat templates and of this project's own templates.
_MARKERS = re.compile(
  r"<\|[^|\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|\[\[(?:start|end)\]\]"
  r"|\b(?:User Query|Video Prompt)\s*:",
  re.IGNORECASE,
)
_RUN = re.compile(r"(\S)\1{19}")
_SENTENCE = re.compile(r"[^.!?。！？\n]+")
_WORD = re.compile(r"\w+")


def problem(answer: records.Candidate, language: str = LANGUAGE) -> str | None:
  """Why an answer is not to be used, in words that finish "the prompt ..."; or None.

  Args:
    language: code of the language that it must be in.
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
  """The name of the language that a text is in for certain, where it is another one.

  A few words, names, and quotations in another language leave doubt, and pass.
  """
  try:
    sure, size, found = pycld2.detect(text)
  except pycld2.error:  # characters that it does not take
    return None
  name, code, percent, _ = found[0]
  if sure and size >= _ENOUGH and code not in (language, "un") and percent >= _FOREIGN:
    return name.capitalize()
  return None


def repeats(text: str) -> bool:
  """A run of one character, a sentence three times, or the same words in a circle."""
  if _RUN.search(text):
    return True
  words = [word.lower() for word in _WORD.findall(text)]
  sentences = collections.Counter(
    " ".join(_WORD.findall(sentence.lower())) for sentence in _SENTENCE.findall(text)
  )
  if any(n >= 3 and len(s.split()) >= 3 for s, n in sentences.items()):
    return True
  fours = collections.Counter(zip(*(words[i:] for i in range(4)), strict=False))
  # Half of a text being four-word phrases that were there before is no prose.
  return sum(fours.values()) >= 20 and len(fours) < 0.5 * sum(fours.values())
