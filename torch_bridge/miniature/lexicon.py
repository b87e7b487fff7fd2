"""The words that people use for the attributes of the miniature world.

The first word of each plain list is the one in captions, the only one that the video
model knows.
"""

from __future__ import annotations

import functools
import json
import pathlib
import re

_PATH = pathlib.Path(__file__).with_name("lexicon.json")
_CHINESE = 0x2E80  # first code point of Chinese characters
PLAIN = "plain"  # the manner of speaking that is standard English

# The values that a text names of each attribute, in its order.
Meaning = dict[str, tuple[str, ...]]


@functools.cache
def manners() -> dict[str, dict[str, dict[str, list[str]]]]:
  """Words by manner of speaking, attribute and value."""
  return json.loads(_PATH.read_text(encoding="utf-8"))


def phrases(manner: str, attribute: str, value: str) -> list[str]:
  return manners()[manner][attribute][value]


def plural(shape: str) -> str:
  """The plural of a shape's name in any manner; unchanged in Chinese."""
  if not shape.isascii() and ord(shape[0]) > _CHINESE:
    return shape
  return f"{shape}es" if shape.endswith(("x", "s")) else f"{shape}s"


def read(text: str) -> Meaning:
  """The attributes that a text names, in any manner; each value once."""
  found: dict[str, list[str]] = {}
  for attribute, value in worded(text):
    found.setdefault(attribute, []).append(value)
  return {attribute: tuple(values) for attribute, values in found.items()}


def meant(text: str) -> dict[str, str]:
  """The first value of each attribute that a text names."""
  return {attribute: values[0] for attribute, values in read(text).items()}


def worded(text: str) -> dict[tuple[str, str], str]:
  """The first word that a text uses for each attribute value; shapes in singular."""
  found: dict[tuple[str, str], str] = {}
  for match in _pattern().finditer(text.lower()):
    attribute, value, word = _values()[match[0]]
    found.setdefault((attribute, value), word)
  return found


@functools.cache
def _values() -> dict[str, tuple[str, str, str]]:
  return {
    form: (attribute, value, word)
    for attributes in manners().values()
    for attribute, values in attributes.items()
    for value, words in values.items()
    for word in words
    for form in ((word, plural(word)) if attribute == "shape" else (word,))
  }


@functools.cache
def _pattern() -> re.Pattern[str]:
  # Longest first, since some phrases contain shorter ones.
  words = sorted(_values(), key=len, reverse=True)
  # Chinese has no spaces between words.
  parts = [
    re.escape(word) if ord(word[0]) > _CHINESE else rf"(?<!\w){re.escape(word)}(?!\w)"
    for word in words
  ]
  return re.compile("|".join(parts))
