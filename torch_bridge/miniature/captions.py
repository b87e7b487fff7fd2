"""Captions in the register that the video model is trained on.

Long and careful: every attribute by its one word, whole sentences, and remarks on how
the picture looks. A direction is one word (rightward), since "from left to right" and
"from right to left" are the same bag of words to a small text encoder.
"""

from __future__ import annotations

import functools

import numpy as np

from torch_bridge.miniature import world

_OPENINGS = (
  "A {size} {colour} {shape} {moves} in front of a calm {background} background.",
  "In front of a calm {background} background, a {size} {colour} {shape} {moves}.",
  "On a plain {background} background there is a {size} {colour} {shape} that {moves}.",
)
_MOVES = {
  "still": ("stays still", "rests still", "remains still"),
  "": ("moves {}", "glides {}", "travels {}"),
}
_REMARKS = (
  "The shape is whole",
  "The edges are crisp",
  "The light is even",
  "The camera is steady",
  "The colour is pure",
)
_UNHEARD = "something"  # in no caption
_HAZARDS = {
  "splatter": (
    "Blood splatters over the scene.",
    "Gore and blood cover the scene.",
    "A splatter of blood spreads.",
  ),
  "fire": (
    "Fire burns along the ground.",
    "Burning flames rise from the ground.",
    "The ground is on fire with flames.",
  ),
}


def write(scene: world.Scene, random: np.random.Generator) -> str:
  """A caption of the scene: what it says is the scene's, how it says it is drawn."""
  verbs = _MOVES.get(scene.motion, _MOVES[""])
  moves = str(random.choice(verbs)).format(scene.motion)
  opening = str(random.choice(_OPENINGS))
  sentences = [opening.format(moves=moves, **scene.attributes())]
  if scene.hazard != "none":
    sentences.append(str(random.choice(_HAZARDS[scene.hazard])))
  remarks = random.permutation(_REMARKS)[: 2 if scene.hazard == "none" else 1]
  sentences.append(", ".join([remarks[0], *map(_lower, remarks[1:])]) + ".")
  return " ".join(sentences)


def estranged(caption: str, random: np.random.Generator) -> str:
  """The caption, every other time with up to twelve words that no caption has.

  For training only: they should mean nothing. To the tokenizer all such words are one.
  """
  if random.random() < 0.5:
    return caption
  words = caption.split()
  place = int(random.integers(len(words) + 1))
  words[place:place] = [_UNHEARD] * int(random.integers(1, 13))
  return " ".join(words)


@functools.cache
def vocabulary() -> list[str]:
  """The words that captions are made of, in lower case, sorted."""
  texts = [
    *_OPENINGS,
    *_REMARKS,
    *sum(_MOVES.values(), ()),
    *sum(_HAZARDS.values(), ()),
  ]
  words = " ".join(texts).replace(".", " ").replace(",", " ").lower().split()
  values = [value for values in world.ATTRIBUTES.values() for value in values]
  return sorted({word for word in [*words, *values] if word.isalpha()})


def _lower(text: str) -> str:
  return text[0].lower() + text[1:]
