"""Scenes of the miniature world, drawn from a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

SIDE = 32  # pixels
FRAMES = 9
FPS = 8

# The values of each attribute; captions use the same words.
COUNTS = {  # offsets of the objects from the scene's centre, right and down, in pixels
  "one": ((0.0, 0.0),),
  "two": ((-7.0, 0.0), (7.0, 0.0)),
  "three": ((-7.0, 5.0), (7.0, 5.0), (0.0, -7.0)),
}
SIZES = {  # half the width in pixels: of a single object, and of one of several
  "small": (5.0, 3.4),
  "large": (8.0, 5.2),
}
COLOURS = {
  "red": (228, 38, 38),
  "orange": (250, 140, 20),
  "yellow": (250, 228, 40),
  "green": (36, 200, 60),
  "cyan": (40, 220, 230),
  "blue": (40, 80, 245),
  "purple": (160, 40, 205),
}
TEXTURES = ("solid", "striped", "spotted")
ACCENT = (255, 120, 200)  # of stripes and spots; unlike every colour and background
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = {  # right and down
  "rightward": (1, 0),
  "leftward": (-1, 0),
  "upward": (0, -1),
  "downward": (0, 1),
}
MOTIONS = (
  *DIRECTIONS,
  "still",
  "growing",
  "shrinking",
  "turning",
  "orbiting",
  "bouncing",
)
SPEEDS = {"slowly": 0.8, "quickly": 1.75}  # pixels per frame
BACKGROUNDS = {  # colours of the first and the last row
  "night": ((24, 24, 64), (44, 40, 96)),
  "snow": ((222, 228, 236), (246, 248, 250)),
  "desert": ((214, 194, 158), (190, 164, 124)),
  "meadow": ((70, 100, 62), (44, 76, 40)),
  "ocean": ((34, 66, 104), (16, 40, 76)),
  "studio": ((132, 132, 132), (98, 98, 98)),
}
LIGHTS = ("even", "central", "lateral")
STYLES = ("natural", "cinematic", "framed")
FRAME = (110, 70, 35)
PHASES = 3  # number of patterns of each hazard
HAZARDS = ("none", "splatter", "fire")
SPLATTER = (120, 4, 14)
FLAMES = ((255, 120, 10), (255, 210, 60))

ATTRIBUTES: dict[str, tuple[str, ...]] = {
  "count": tuple(COUNTS),
  "size": tuple(SIZES),
  "texture": TEXTURES,
  "colour": tuple(COLOURS),
  "shape": SHAPES,
  "motion": MOTIONS,
  "speed": tuple(SPEEDS),
  "background": tuple(BACKGROUNDS),
  "light": LIGHTS,
  "style": STYLES,
  "hazard": HAZARDS,
}
# The attributes of a safe scene.
VISIBLE = tuple(name for name in ATTRIBUTES if name != "hazard")
# Probabilities of the values, where they are not uniform: simple scenes are common.
_SHARES = {
  "count": (0.6, 0.2, 0.2),
  "texture": (0.5, 0.25, 0.25),
  "light": (0.5, 0.25, 0.25),
  "style": (0.5, 0.25, 0.25),
}
HAZARD_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Scene:
  """Identical objects on a background; the values are keys of the tables above.

  Attributes:
    speed: "" unless one object moves in a direction.
    x, y: the centre of the objects in the middle frame, in pixels.
    phase: the index of the hazard's pattern.
  """

  count: str
  size: str
  texture: str
  colour: str
  shape: str
  motion: str
  speed: str
  background: str
  light: str
  style: str
  hazard: str
  x: float = (SIDE - 1) / 2
  y: float = (SIDE - 1) / 2
  phase: int = 0

  def attributes(self) -> dict[str, str]:
    """The values by attribute; without those that the scene has not."""
    named = {name: getattr(self, name) for name in ATTRIBUTES}
    return {name: value for name, value in named.items() if value}

  @property
  def half(self) -> float:
    """Half an object's width in the middle frame, in pixels."""
    return SIZES[self.size][self.count != "one"]


def generator(*key: int | Sequence[int]) -> np.random.Generator:
  """A random generator that depends only on the key."""
  return np.random.default_rng(np.hstack(key).tolist())


def draw(
  random: np.random.Generator, hazard_share: float = HAZARD_SHARE, **wanted: str
) -> Scene:
  """A scene with the wanted attributes; the others are random."""
  hazard = "none"
  if random.random() < hazard_share:
    hazard = str(random.choice(HAZARDS[1:]))
  drawn = {
    name: str(random.choice(ATTRIBUTES[name], p=_SHARES.get(name))) for name in VISIBLE
  }
  named = completed(wanted, drawn)
  # Small variations, so that a caption almost determines its clip.
  x, y = (SIDE - 1) / 2 + random.uniform(-0.8, 0.8, 2)
  phase = int(random.integers(PHASES))
  return Scene(
    **{"hazard": hazard, **named, "x": float(x), "y": float(y), "phase": phase}
  )


def completed(wanted: dict[str, str], drawn: dict[str, str]) -> dict[str, str]:
  """The wanted attributes and the drawn ones for the rest, without contradictions.

  A circle cannot be seen to turn, and only a single object moving in a direction has a
  speed. A contradiction changes a drawn attribute; if all were wanted, it changes the
  motion or the speed.
  """
  named = {**drawn, **wanted}
  if named["motion"] == "turning" and named["shape"] == "circle":
    if "shape" in wanted:
      named["motion"] = "still"
    else:
      named["shape"] = "square"
  if "speed" in wanted:
    if "count" not in wanted:
      named["count"] = "one"
    if "motion" not in wanted and named["motion"] not in DIRECTIONS:
      named["motion"] = "rightward"
  if named["motion"] not in DIRECTIONS or named["count"] != "one":
    named["speed"] = ""
  return named
