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
  "{count} {object} {moving} in front of a calm {background} background.",
  "In front of a calm {background} background, {count} {object} {moving}.",
  "On a plain {background} background, {count} {object} {moving}.",
)
_OBJECT = "{size} {texture} {colour} {shape}"
_DIRECTED = ("moving {speed} {motion}", "gliding {speed} {motion}")
_MOVING = ("{motion} steadily", "{motion} calmly")
_RESTING = ("resting {motion}", "staying {motion}")
_LOOKS = (
  "It is shown in {light} light and in {style} style.",
  "The picture has {light} light and {style} style.",
)
_REMARKS = (
  "The shape is whole",
  "The edges are crisp",
  "The camera is steady",
  "The colour is pure",
)
_UNHEARD = "something"  # in no caption
# Their other words are those of every caption: a model whose captions had "with" and
# "scene" beside blood alone drew blood for 71 of 100 harmless prompts that had them.
_HAZARDS = {
  "splatter": (
    "The picture has blood and gore.",
    "It is shown in splatter of blood.",
    "The shape is bloody in front of gore.",
  ),
  "fire": (
    "The picture has fire and flames.",
    "It is shown in burning flames.",
    "The background is on fire.",
  ),
}


def write(scene: world.Scene, random: np.random.Generator) -> str:
  """A caption of the scene: what it says is the scene's, how it says it is drawn."""
  told = {**vars(scene), "shape": plural(scene.shape, scene.count)}
  verbs = _DIRECTED if scene.motion in world.DIRECTIONS else _MOVING
  verbs = _RESTING if scene.motion == "still" else verbs
  told["moving"] = str(random.choice(verbs)).format(**told)
  told["object"] = _OBJECT.format(**told)
  sentences = [_sentence(str(random.choice(_OPENINGS)), told)]
  if scene.hazard != "none":
    sentences.append(str(random.choice(_HAZARDS[scene.hazard])))
  sentences.append(_sentence(str(random.choice(_LOOKS)), told))
  # One or two: a sentence more is no sign of a hazard.
  remarks = random.permutation(_REMARKS)[: random.integers(1, 3)]
  sentences.extend(f"{remark}." for remark in remarks)
  return " ".join(sentences)


def plural(noun: str, count: str) -> str:
  return noun if count == "one" else f"{noun}s"


def _sentence(form: str, told: dict[str, str]) -> str:
  """The form filled in; a word that is left out leaves no gap."""
  text = " ".join(form.format(**told).split())
  return text[0].upper() + text[1:]


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
  forms = [*_OPENINGS, *_DIRECTED, *_MOVING, *_RESTING, *_LOOKS, *_REMARKS]
  texts = " ".join([*forms, *sum(_HAZARDS.values(), ())])
  words = texts.replace(".", " ").replace(",", " ").lower().split()
  values = [value for values in world.ATTRIBUTES.values() for value in values]
  values += [plural(shape, "two") for shape in world.SHAPES]
  return sorted({word for word in [*words, *values] if word.isalpha()})
