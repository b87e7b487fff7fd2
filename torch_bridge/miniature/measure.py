"""Reads a clip's attributes back from its frames.

Legend: T frames, H rows, W columns.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from torch_bridge.miniature import clips, world

_MARGIN = 3  # columns at each side where the background shows
_APART = 50.0  # a pixel of the object is so far from the background, 0 to 255 a channel
_MIDDLE = 6.4  # half-widths above it are large
_MOVED = 4.0  # pixels between the first and the last third; below it, it stood still

_BLURS = 3  # sharp, blurred once, blurred twice
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
    mask: where the object is, [T, H, W].
    area: its pixels, [T].
    centre: of the object, right and down, [T, 2]; NaN where there is none.
    colour: median of the object's pixels, 0 to 255, [T, 3].
    half: half the object's width, pixels.
    misfit: how far the object is from its shape's outline, 0 to 1.
    off_colour: distance of its colour to the nearest of the world's, 0 to 255.
    off_background: mean distance of the backdrop to the nearest of the world's.
    flicker: mean change of the backdrop's brightness between frames, 0 to 255.
    grain: mean distance of a pixel from the backdrop, where nothing else is.
    splatter: share of the pixels that are dark red.
    fire: share of the pixels that are flames along the ground.
  """

  attributes: dict[str, str]
  mask: np.ndarray
  area: np.ndarray
  centre: np.ndarray
  colour: np.ndarray
  half: float
  misfit: float
  off_colour: float
  off_background: float
  flicker: float
  grain: float
  splatter: float
  fire: float


def read(frames_THW3: np.ndarray) -> Reading:
  """Measures a clip, uint8 [T, H, W, 3]; one of another size is sampled to ours."""
  rows, columns = (
    ((np.arange(world.SIDE) + 0.5) * side / world.SIDE).astype(int)
    for side in frames_THW3.shape[1:3]
  )
  frames = frames_THW3[:, rows][:, :, columns].astype(np.float32)
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
  share = _share(frames, empty, mask)
  mask &= share > 0.5
  # Around the object and the hazards, mp4 spreads their colours.
  rest = ~_grown(_grown(mask | splatter | fire))
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
  shape, half, misfit = _outline(mask[found], share[found])
  return Reading(
    attributes={
      "colour": name,
      "shape": shape,
      "size": "" if not shape else "large" if half > _MIDDLE else "small",
      "motion": _motion(centre[found]) if shape else "",
      "background": background,
      "hazard": hazard,
    },
    mask=mask,
    area=area,
    centre=centre,
    colour=colour,
    half=half,
    misfit=misfit,
    off_colour=off_colour,
    off_background=off_background,
    flicker=float(np.abs(np.diff(sides.mean((1, 2, 3)))).mean()),
    grain=float(np.abs(frames - empty)[rest].mean()) if rest.any() else 255.0,
    splatter=float(splatter.mean()),
    fire=float(fire.mean()),
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


def _share(frames: np.ndarray, empty: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """How much of each pixel the object covers, 0 to 1, [T, H, W].

  A pixel of the edge is a mixture of the object's colour and the background's, and mp4
  spreads colour over two pixels.
  """
  if not mask.any():
    return mask.astype(np.float32)
  apart_H3 = np.median(frames[mask], axis=0) - empty
  share = ((frames - empty) * apart_H3).sum(-1) / np.square(apart_H3).sum(-1).clip(1)
  return np.where(_grown(mask), share.clip(0, 1), 0)


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


def _outline(mask_THW: np.ndarray, share_THW: np.ndarray) -> tuple[str, float, float]:
  """The shape that fits best, half its width in pixels, and the misfit.

  Each shape is drawn with the object's own area and centre, sharp and blurred (mp4
  rounds the corners of a colour), and the nearest to what each pixel holds is taken.
  The misfit is 1 - intersection / union of the two outlines, the median over frames.
  """
  if not len(mask_THW):
    return "", 0.0, 1.0
  weight = mask_THW.sum((1, 2))
  y = _ROWS - ((mask_THW * _ROWS).sum((1, 2)) / weight)[:, None, None]
  x = _COLUMNS - ((mask_THW * _COLUMNS).sum((1, 2)) / weight)[:, None, None]
  area = share_THW.sum((1, 2)).clip(1)[:, None, None]
  best = ("", 0.0, 1.0)
  least = np.inf
  for name, squares in _AREA.items():
    half = np.sqrt(area / squares)
    drawn = np.clip(0.5 - clips.DISTANCES[name](x, y + _SINK[name] * half, half), 0, 1)
    inside = drawn > 0.5
    fit = (mask_THW & inside).sum((1, 2)) / (mask_THW | inside).sum((1, 2))
    for _ in range(_BLURS):
      error = np.square(drawn - share_THW).sum()
      if error < least:
        least = error
        best = name, float(np.median(half)), float(1 - np.median(fit))
      drawn = _blurred(drawn)
  return best


def _blurred(image_THW: np.ndarray) -> np.ndarray:
  for axis in (1, 2):
    beside = np.roll(image_THW, 1, axis) + np.roll(image_THW, -1, axis)
    image_THW = image_THW / 2 + beside / 4
  return image_THW


def _motion(centre_T2: np.ndarray) -> str:
  third = max(1, len(centre_T2) // 3)
  moved = centre_T2[-third:].mean(0) - centre_T2[:third].mean(0)
  if np.abs(moved).max() < _MOVED:
    return "still"
  right, down = moved
  if abs(right) > abs(down):
    return "rightward" if right > 0 else "leftward"
  return "downward" if down > 0 else "upward"
