"""Reads a clip's attributes back from its frames.

Legend: T frames, H rows, W columns.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from torch_bridge.miniature import clips, world

_MARGIN = 3  # columns at each side where the background shows
_APART = 70.0  # a pixel of the object is so far from the background, 0 to 255 a channel
_MIDDLE = 5.8  # half-widths above it are large
_MOVED = 4.0  # pixels between the first and the last third; below it, it stood still

_SPLATTERED = 0.03  # share of the pixels
_BURNT = 0.06
_ROWS, _COLUMNS = np.mgrid[: world.SIDE, : world.SIDE].astype(np.float32)
# A shape's area, in squares of half its width, and how far its centre of mass lies
# below the middle, in half-widths.
_AREA = {"circle": np.pi, "square": 4 * 0.9**2, "triangle": 2.0}
_SINK = {"circle": 0.0, "square": 0.0, "triangle": 1 / 3}


@dataclasses.dataclass(frozen=True)
class Reading:
  """What a clip shows.

  Attributes:
    attributes: a value for each of `world.ATTRIBUTES`; "" where nothing was found.
    area: pixels of the object, [T].
    centre: of the object, right and down, [T, 2]; NaN where there is none.
    colour: mean of the object's pixels, 0 to 255, [T, 3].
    off_colour: distance of the mean colour to the nearest of the world's, 0 to 255.
    off_background: mean distance of the backdrop to the nearest of the world's.
    flicker: mean change of the backdrop's brightness between frames, 0 to 255.
    misfit: how far the object is from its shape's outline, 0 to 1.
  """

  attributes: dict[str, str]
  area: np.ndarray
  centre: np.ndarray
  colour: np.ndarray
  off_colour: float
  off_background: float
  flicker: float
  misfit: float


def read(frames_THW3: np.ndarray) -> Reading:
  """Measures a clip, uint8 [T, H, W, 3]."""
  frames = frames_THW3.astype(np.float32)
  splatter, fire = _splatter(frames), _fire(frames)
  hazard = "none"
  if splatter.mean() > _SPLATTERED:
    hazard = "splatter"
  if fire.mean() > _BURNT:
    hazard = "fire"
  sides = np.concatenate([frames[:, :, :_MARGIN], frames[:, :, -_MARGIN:]], 2)
  backdrop_H3 = np.median(sides, axis=(0, 2))
  if hazard == "fire":
    # The ground burns: what is above it says which background it is.
    backdrop_H3 = backdrop_H3[: -world.SIDE // 3]
  background, off_background = _nearest_background(backdrop_H3)
  empty = clips.background(background) if background else 0 * frames[0]
  if background and hazard == "none":
    empty = np.broadcast_to(backdrop_H3[:, None], empty.shape)
  apart = np.abs(frames - empty).max(-1) > _APART
  mask = apart & ~_grown(splatter) & ~fire
  if hazard == "fire":
    mask[:, -world.SIDE // 4 :] = False
  area = mask.sum((1, 2)).astype(np.float32)
  centre = np.full((len(frames), 2), np.nan, np.float32)
  colour = np.zeros((len(frames), 3), np.float32)
  for time, inside in enumerate(mask):
    if area[time] >= 8:
      rows, columns = np.nonzero(inside)
      centre[time] = columns.mean(), rows.mean()
      # The median passes over the mixed pixels of the edge.
      colour[time] = np.median(frames[time][inside], axis=0)
  found = area >= 8
  name, off_colour = "", 255.0
  if found.any():
    name, off_colour = _nearest_colour(np.median(colour[found], axis=0))
  shape, half, misfit = _outline(mask[found])
  return Reading(
    attributes={
      "colour": name,
      "shape": shape,
      "size": "" if not shape else "large" if half > _MIDDLE else "small",
      "motion": _motion(centre[found]) if shape else "",
      "background": background,
      "hazard": hazard,
    },
    area=area,
    centre=centre,
    colour=colour,
    off_colour=off_colour,
    off_background=off_background,
    flicker=float(np.abs(np.diff(sides.mean((1, 2, 3)))).mean()),
    misfit=misfit,
  )


def _splatter(frames: np.ndarray) -> np.ndarray:
  """Where it is dark red, [T, H, W]; the edge of a red object on black is not."""
  red, green, blue = np.moveaxis(frames, -1, 0)
  bright = (red > 190) & (green < 90) & (blue < 90)
  dark = (red > 75) & (red < 175) & (green < 45) & (blue < 50) & (red > blue + 60)
  return dark & ~_grown(bright)


def _grown(mask_THW: np.ndarray) -> np.ndarray:
  """The mask and the pixels beside it."""
  padded = np.pad(mask_THW, ((0, 0), (1, 1), (1, 1)))
  down = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
  return down[..., :-2] | down[..., 1:-1] | down[..., 2:]


def _fire(frames: np.ndarray) -> np.ndarray:
  """Where the lower third is flame, [T, H, W]."""
  red, green, blue = np.moveaxis(frames, -1, 0)
  flame = (red > 215) & (green > 85) & (green < 235) & (blue < 110)
  # An orange or yellow object is no fire: that spans the frame's whole width.
  low = flame[:, -3:].mean(1)
  spans = (low > 0.3).mean(1) > 0.75
  ground = np.arange(world.SIDE) >= world.SIDE * 2 // 3
  return flame & spans[:, None, None] & ground[:, None]


def _nearest_background(backdrop_H3: np.ndarray) -> tuple[str, float]:
  distance = {
    name: float(
      np.abs(clips.background(name)[: len(backdrop_H3), 0] - backdrop_H3).mean()
    )
    for name in world.BACKGROUNDS
  }
  name = min(distance, key=lambda key: distance[key])
  return (name if distance[name] < 40 else ""), distance[name]


def _nearest_colour(colour_3: np.ndarray) -> tuple[str, float]:
  distance = {
    name: float(np.linalg.norm(np.array(value) - colour_3))
    for name, value in world.COLOURS.items()
  }
  name = min(distance, key=lambda key: distance[key])
  return (name if distance[name] < 90 else ""), distance[name]


def _outline(mask_THW: np.ndarray) -> tuple[str, float, float]:
  """The shape whose outline fits best, half its width in pixels, and the misfit.

  Each shape is tried with the mask's own area and centre; the fit is the overlap of
  the two, intersection over union, its median over the frames.
  """
  if not len(mask_THW):
    return "", 0.0, 1.0
  fits, halves = [], []
  for inside in mask_THW:
    rows, columns = np.nonzero(inside)
    x, y = _COLUMNS - columns.mean(), _ROWS - rows.mean()
    half = [np.sqrt(len(rows) / share) for share in _AREA.values()]
    drawn = [
      clips.DISTANCES[name](x, y + _SINK[name] * size, size) < 0
      for name, size in zip(_AREA, half, strict=True)
    ]
    fits.append([(inside & one).sum() / (inside | one).sum() for one in drawn])
    halves.append(half)
  fit = np.median(fits, axis=0)
  best = int(fit.argmax())
  return (
    tuple(_AREA)[best],
    float(np.median(halves, axis=0)[best]),
    float(1 - fit[best]),
  )


def _motion(centre_T2: np.ndarray) -> str:
  third = max(1, len(centre_T2) // 3)
  moved = centre_T2[-third:].mean(0) - centre_T2[:third].mean(0)
  if np.abs(moved).max() < _MOVED:
    return "still"
  right, down = moved
  if abs(right) > abs(down):
    return "rightward" if right > 0 else "leftward"
  return "downward" if down > 0 else "upward"
