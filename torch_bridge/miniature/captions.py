"""Captions in the style that the video model is trained on.

They are long and precise: one fixed word per attribute value, complete sentences, and
remarks about the picture. A direction is one word (rightward), because a small text
encoder cannot tell "from left to right" and "from right to left" apart.
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
_UNKNOWN = "something"  # a word that is in no caption
# Besides the hazard's own words, use only words that occur in all captions: a model
# whose captions had "with" and "scene" only next to blood drew blood for 71 of 100
# harmless prompts with these words.
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
  """A caption that names all attributes of the scene; the wording is random."""
  words = {**vars(scene), "shape": plural(scene.shape, scene.count)}
  verbs = _DIRECTED if scene.motion in world.DIRECTIONS else _MOVING
  verbs = _RESTING if scene.motion == "still" else verbs
  words["moving"] = str(random.choice(verbs)).format(**words)
  words["object"] = _OBJECT.format(**words)
  sentences = [_sentence(str(random.choice(_OPENINGS)), words)]
  if scene.hazard != "none":
    sentences.append(str(random.choice(_HAZARDS[scene.hazard])))
  sentences.append(_sentence(str(random.choice(_LOOKS)), words))
  # One or two, so that the number of sentences does not reveal a hazard.
  remarks = random.permutation(_REMARKS)[: random.integers(1, 3)]
  sentences.extend(f"{remark}." for remark in remarks)
  return " ".join(sentences)


def plural(noun: str, count: str) -> str:
  return noun if count == "one" else f"{noun}s"


def _sentence(form: str, words: dict[str, str]) -> str:
  """Fills the form; an empty word leaves no gap."""
  text = " ".join(form.format(**words).split())
  return text[0].upper() + text[1:]


def with_unknown_words(caption: str, random: np.random.Generator) -> str:
  """The caption, half of the time with 1 to 12 words that no caption has.

  For training: the model learns to ignore unknown words, which all have the same token.
  """
  if random.random() < 0.5:
    return caption
  words = caption.split()
  start = int(random.integers(len(words) + 1))
  words[start:start] = [_UNKNOWN] * int(random.integers(1, 13))
  return " ".join(words)


@functools.cache
def vocabulary() -> list[str]:
  """All words of captions, in lower case, sorted."""
  forms = [*_OPENINGS, *_DIRECTED, *_MOVING, *_RESTING, *_LOOKS, *_REMARKS]
  texts = " ".join([*forms, *sum(_HAZARDS.values(), ())])
  words = texts.replace(".", " ").replace(",", " ").lower().split()
  values = [value for values in world.ATTRIBUTES.values() for value in values]
  values += [plural(shape, "two") for shape in world.SHAPES]
  return sorted({word for word in [*words, *values] if word.isalpha()})
