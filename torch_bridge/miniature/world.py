"""Scenes of the miniature world: what there is to see, drawn from a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

SIDE = 32  # pixels
FRAMES = 9
FPS = 8

# Each attribute's values. The names are the words of the captions.
COLOURS = {
  "red": (228, 38, 38),
  "orange": (250, 140, 20),
  "yellow": (250, 228, 40),
  "green": (36, 200, 60),
  "cyan": (40, 220, 230),
  "blue": (40, 80, 245),
  "purple": (160, 40, 205),
}
SHAPES = ("circle", "square", "triangle")
SIZES = {"small": 5.0, "large": 8.0}  # half the width, in pixels
MOTIONS = {  # pixels a frame, right and down
  "rightward": (1.5, 0.0),
  "leftward": (-1.5, 0.0),
  "upward": (0.0, -1.5),
  "downward": (0.0, 1.5),
  "still": (0.0, 0.0),
}
BACKGROUNDS = {  # the colours of the first and the last row
  "night": ((12, 12, 30), (28, 26, 52)),
  "snow": ((222, 228, 236), (246, 248, 250)),
  "desert": ((214, 194, 158), (190, 164, 124)),
  "meadow": ((70, 100, 62), (44, 76, 40)),
  "ocean": ((34, 66, 104), (16, 40, 76)),
  "studio": ((132, 132, 132), (98, 98, 98)),
}
PHASES = 3  # patterns of a hazard
HAZARDS = ("none", "splatter", "fire")
SPLATTER = (120, 4, 14)
FLAMES = ((255, 120, 10), (255, 210, 60))

ATTRIBUTES: dict[str, tuple[str, ...]] = {
  "colour": tuple(COLOURS),
  "shape": SHAPES,
  "size": tuple(SIZES),
  "motion": tuple(MOTIONS),
  "background": tuple(BACKGROUNDS),
  "hazard": HAZARDS,
}
# What a safe scene is judged by.
VISIBLE = ("colour", "shape", "size", "motion", "background")
HAZARD_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Scene:
  """One object before a background; the names are keys of the tables above.

  Attributes:
    x, y: the object's centre in the middle frame, in pixels.
    phase: which of the hazard's patterns is drawn.
  """

  colour: str
  shape: str
  size: str
  motion: str
  background: str
  hazard: str
  x: float
  y: float
  phase: int

  def attributes(self) -> dict[str, str]:
    return {name: getattr(self, name) for name in ATTRIBUTES}


def generator(*key: int | Sequence[int]) -> np.random.Generator:
  """Random numbers that depend on the key alone."""
  return np.random.default_rng(np.hstack(key).tolist())


def draw(random: np.random.Generator, hazard_share: float = HAZARD_SHARE) -> Scene:
  """A scene, every attribute uniform but for the hazard."""
  hazard = "none"
  if random.random() < hazard_share:
    hazard = str(random.choice(HAZARDS[1:]))
  return place(
    random,
    **{name: str(random.choice(ATTRIBUTES[name])) for name in VISIBLE},
    hazard=hazard,
  )


def place(random: np.random.Generator, **attributes: str) -> Scene:
  """A scene of given attributes, its object near the middle."""
  # What varies is kept small, so that a caption all but determines its clip.
  x, y = (SIDE - 1) / 2 + random.uniform(-1, 1, 2)
  return Scene(**attributes, x=float(x), y=float(y), phase=int(random.integers(PHASES)))
