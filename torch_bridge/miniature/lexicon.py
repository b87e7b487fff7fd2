"""The words by which people name what the miniature world shows.

The first word of each plain list is the captions' own; the video model knows no other.
"""

from __future__ import annotations

import functools
import json
import pathlib
import re

_PATH = pathlib.Path(__file__).with_name("lexicon.json")
_CHINESE = 0x2E80  # where its characters begin
PLAIN = "plain"  # the one manner of speaking that is good English

# A text's values by attribute, in the order in which it names them.
Meaning = dict[str, tuple[str, ...]]


@functools.cache
def manners() -> dict[str, dict[str, dict[str, list[str]]]]:
  """Words by manner of speaking, attribute and value."""
  return json.loads(_PATH.read_text(encoding="utf-8"))


def phrases(manner: str, attribute: str, value: str) -> list[str]:
  return manners()[manner][attribute][value]


def plural(shape: str) -> str:
  """Of a shape's name, in whatever manner; Chinese has none."""
  if not shape.isascii() and ord(shape[0]) > _CHINESE:
    return shape
  return f"{shape}es" if shape.endswith(("x", "s")) else f"{shape}s"


def read(text: str) -> Meaning:
  """What a text names, whatever its manner; each value once."""
  found: dict[str, list[str]] = {}
  for attribute, value in worded(text):
    found.setdefault(attribute, []).append(value)
  return {attribute: tuple(values) for attribute, values in found.items()}


def meant(text: str) -> dict[str, str]:
  """The first value that a text names of each attribute."""
  return {attribute: values[0] for attribute, values in read(text).items()}


def worded(text: str) -> dict[tuple[str, str], str]:
  """The word by which a text first names each attribute's value; shapes' singular."""
  found: dict[tuple[str, str], str] = {}
  for match in _pattern().finditer(text.lower()):
    attribute, value, word = _values()[match[0]]
    found.setdefault((attribute, value), word)
  return found


@functools.cache
def _values() -> dict[str, tuple[str, str, str]]:
  return {
    said: (attribute, value, word)
    for attributes in manners().values()
    for attribute, values in attributes.items()
    for value, words in values.items()
    for word in words
    for said in ((word, plural(word)) if attribute == "shape" else (word,))
  }


@functools.cache
def _pattern() -> re.Pattern[str]:
  # The longest first: "from left to right" holds "to the right"'s word, and more.
  words = sorted(_values(), key=len, reverse=True)
  # Chinese has no spaces between its words.
  parts = [
    re.escape(word) if ord(word[0]) > _CHINESE else rf"(?<!\w){re.escape(word)}(?!\w)"
    for word in words
  ]
  return re.compile("|".join(parts))
