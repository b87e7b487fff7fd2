"""Scenes of the miniature world: what there is to see, drawn from a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

SIDE = 32  # pixels
FRAMES = 9
FPS = 8

# Each attribute's values. The names are the words of the captions.
COUNTS = {  # where the objects are about the scene's centre, right and down, in pixels
  "one": ((0.0, 0.0),),
  "two": ((-7.0, 0.0), (7.0, 0.0)),
  "three": ((-7.0, 5.0), (7.0, 5.0), (0.0, -7.0)),
}
SIZES = {  # half the width, in pixels, of one object and of one among several
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
ACCENT = (255, 120, 200)  # of stripes and spots: far from every colour and background
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
SPEEDS = {"slowly": 0.8, "quickly": 1.75}  # pixels a frame
BACKGROUNDS = {  # the colours of the first and the last row
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
PHASES = 3  # patterns of a hazard
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
# What a safe scene is judged by.
VISIBLE = tuple(name for name in ATTRIBUTES if name != "hazard")
# How often the values are drawn, where not all alike: the simple scene is commonest.
_SHARES = {
  "count": (0.6, 0.2, 0.2),
  "texture": (0.5, 0.25, 0.25),
  "light": (0.5, 0.25, 0.25),
  "style": (0.5, 0.25, 0.25),
}
HAZARD_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Scene:
  """Objects that are alike before a background; the names are keys of the tables above.

  Attributes:
    speed: "" unless one object moves in a direction.
    x, y: the objects' centre in the middle frame, in pixels.
    phase: which of the hazard's patterns is drawn.
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
  """Random numbers that depend on the key alone."""
  return np.random.default_rng(np.hstack(key).tolist())


def draw(
  random: np.random.Generator, hazard_share: float = HAZARD_SHARE, **wanted: str
) -> Scene:
  """A scene with what is wanted of it, and the rest drawn."""
  hazard = "none"
  if random.random() < hazard_share:
    hazard = str(random.choice(HAZARDS[1:]))
  drawn = {
    name: str(random.choice(ATTRIBUTES[name], p=_SHARES.get(name))) for name in VISIBLE
  }
  named = completed(wanted, drawn)
  # What varies is kept small, so that a caption all but determines its clip.
  x, y = (SIDE - 1) / 2 + random.uniform(-0.8, 0.8, 2)
  phase = int(random.integers(PHASES))
  return Scene(
    **{"hazard": hazard, **named, "x": float(x), "y": float(y), "phase": phase}
  )


def completed(wanted: dict[str, str], drawn: dict[str, str]) -> dict[str, str]:
  """What is wanted, and what was drawn for the rest, made possible.

  A circle is not seen to turn; only one object in a straight motion has a speed. What
  was drawn yields, and if all of it was wanted, the motion or the speed does.
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
