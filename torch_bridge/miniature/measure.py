"""Reads a clip's attributes back from its frames.

The backdrop is the nearest of the world's. The objects are what stands out from it, and
the nearest of the world's movements of objects says how many they are, of which size
and shape, and how they move. Blood and fire are read too, and what they hide counts
neither way.

Legend: N known movements, T frames, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from torch_bridge.miniature import clips, world

_APART = 45.0  # a pixel of an object is so far from the backdrop, 0 to 255 a channel
_FEW = 8  # pixels: an object of fewer is not seen
_NEAR = 90.0  # a pixel so far from a colour is still of that colour
_STRAYED = 60.0  # further than this, one difference to a backdrop is like another
_SHIFTS = tuple(itertools.product((-1, 0, 1), repeat=2))  # down and right, pixels
_ACCENTED = 0.06  # share of the objects: below it they are solid

_SPLATTERED = 0.03  # share of the pixels
_BURNT = 0.06


@dataclasses.dataclass(frozen=True)
class Reading:
  """What a clip shows.

  Attributes:
    attributes: a value for each of `world.ATTRIBUTES`; "" where nothing was found.
    mask: where the objects are, as far as they are not hidden, [T, H, W].
    expected: the same of the nearest known movement.
    colour: median of the objects' pixels, 0 to 255, [T, 3].
    off_colour: distance of their colour to the nearest of the world's, 0 to 255.
    off_background: mean distance of the backdrop to the nearest of the world's.
    flicker: mean change of the backdrop's brightness between frames, 0 to 255.
    grain: mean distance of a pixel from the backdrop, where nothing else is.
    splatter: share of the pixels that are dark red.
    fire: share of the pixels that are flames along the ground.
  """

  attributes: dict[str, str]
  mask: np.ndarray
  expected: np.ndarray
  colour: np.ndarray
  off_colour: float
  off_background: float
  flicker: float
  grain: float
  splatter: float
  fire: float


def read(frames_THW3: np.ndarray) -> Reading:
  """Measures a clip, uint8 [T, H, W, 3]; one of another size is sampled to ours."""
  times, rows, columns = (
    ((np.arange(ours) + 0.5) * theirs / ours).astype(int)
    for ours, theirs in zip(
      (world.FRAMES, world.SIDE, world.SIDE), frames_THW3.shape[:3], strict=True
    )
  )
  frames = frames_THW3[times][:, rows][:, :, columns].astype(np.float32)
  splatter, fire = _splatter(frames), _fire(frames)
  background, light, style, empty = _backdrop(frames)
  inside = clips.within(style)
  # Around a hazard, mp4 spreads its colours.
  seen = inside & ~grown(splatter) & ~grown(grown(grown(fire)))
  apart = frames - empty
  mask = (np.abs(apart).max(-1) > _APART) & seen
  rest = seen & ~grown(grown(mask))
  found = _objects(frames, apart, mask, seen)
  hazard = "none"
  if splatter.mean() > _SPLATTERED:
    hazard = "splatter"
  if fire.mean() > _BURNT:
    hazard = "fire"
  return Reading(
    attributes={
      **found.attributes,
      "background": background,
      "light": light,
      "style": style,
      "hazard": hazard,
    },
    mask=mask & found.covered,
    expected=found.expected,
    colour=found.colour,
    off_colour=found.off_colour,
    off_background=_off_background(apart, rest),
    flicker=_flicker(apart, rest),
    grain=_mean(np.abs(apart), rest),
    splatter=float(splatter.mean()),
    fire=float(fire.mean()),
  )


@dataclasses.dataclass(frozen=True)
class _Objects:
  """The part of a reading that is about the objects."""

  attributes: dict[str, str]
  covered: np.ndarray
  expected: np.ndarray
  colour: np.ndarray
  off_colour: float


def _objects(
  frames: np.ndarray, apart: np.ndarray, mask: np.ndarray, seen: np.ndarray
) -> _Objects:
  names = ("count", "size", "texture", "colour", "shape", "motion", "speed")
  colour_T3 = np.zeros((len(frames), 3), np.float32)
  if mask.sum((1, 2)).max() < _FEW:
    nothing = np.zeros_like(mask)
    return _Objects(dict.fromkeys(names, ""), nothing, nothing, colour_T3, 255.0)
  name, off_colour, of_colour = _colour(frames, mask)
  for time, inside in enumerate(of_colour):
    if inside.any():
      colour_T3[time] = np.median(frames[time][inside], axis=0)
  painted = np.array(world.COLOURS[name] if name else (0, 0, 0), np.float32)
  if not name:
    painted = np.median(frames[mask], axis=0)
  # A pixel of the edge is a mixture of an object's colour and the backdrop's.
  empty = frames - apart
  share = np.maximum(
    _along(apart, painted - empty), _along(apart, world.ACCENT - empty)
  )
  share = np.where(grown(mask), share, 0)
  scene, shift = _nearest(share, seen)
  cover = _shifted(clips.objects(scene)[0], shift)
  expected = (cover > 0.5) & seen
  texture = _texture(frames, painted, scene, shift, expected & mask)
  attributes = {
    "count": scene.count,
    "size": scene.size,
    "texture": texture,
    "colour": name,
    "shape": scene.shape,
    "motion": scene.motion,
    "speed": scene.speed,
  }
  return _Objects(attributes, share > 0.5, expected, colour_T3, off_colour)


def _backdrop(frames: np.ndarray) -> tuple[str, str, str, np.ndarray]:
  """The nearest background, light and style, and the frame that they make."""
  names, empties = _empties()
  # What is in front of it is as far from one as from another.
  apart = np.abs(np.median(frames, axis=0) - empties).max(-1).clip(max=_STRAYED)
  nearest = int(apart.mean((1, 2)).argmin())
  return *names[nearest], empties[nearest]


@functools.cache
def _empties() -> tuple[Sequence[tuple[str, str, str]], np.ndarray]:
  names = list(itertools.product(world.BACKGROUNDS, world.LIGHTS, world.STYLES))
  empties = []
  for background, light, style in names:
    frame = clips.background(background, light).copy()
    frame[~clips.within(style)] = clips.edge(style)
    empties.append(frame)
  return names, np.stack(empties)


def _colour(frames: np.ndarray, mask: np.ndarray) -> tuple[str, float, np.ndarray]:
  """The colour that most pixels are nearest to, how far, and which pixels they are."""
  named = np.array([*world.COLOURS.values(), world.ACCENT], np.float32)
  distance = np.linalg.norm(frames[mask][:, None] - named, axis=-1)
  nearest = np.where(distance.min(1) < _NEAR, distance.argmin(1), len(named))
  # A mixture of two colours may be near a third, and pure pixels are nearer.
  sure = 1 - distance.min(1) / _NEAR
  votes = np.bincount(nearest, sure, len(named) + 1)[: len(world.COLOURS)]
  of_colour = np.zeros_like(mask)
  if not votes.any():
    of_colour[mask] = nearest == len(named)
    return "", 255.0, of_colour
  best = int(votes.argmax())
  of_colour[mask] = nearest == best
  off = np.linalg.norm(np.median(frames[of_colour], axis=0) - named[best])
  return list(world.COLOURS)[best], float(off), of_colour


def _along(apart: np.ndarray, way: np.ndarray) -> np.ndarray:
  """How far along a way in colours each pixel is, 0 to 1."""
  share = (apart * way).sum(-1) / np.square(way).sum(-1).clip(1)
  return share.clip(0, 1)


@functools.cache
def _movements() -> tuple[list[world.Scene], np.ndarray]:
  """Every movement that the world has, and what it covers: [N, T * H * W].

  Each twice, sharp and blurred: mp4 rounds the corners of a colour.
  """
  first = {name: values[0] for name, values in world.ATTRIBUTES.items()}
  names = ("count", "size", "shape", "motion", "speed")
  found: dict[world.Scene, None] = {}
  for values in itertools.product(*(world.ATTRIBUTES[name] for name in names)):
    drawn = first | dict(zip(names, values, strict=True))
    possible: dict[str, Any] = world.completed({}, drawn)
    found[world.Scene(**possible)] = None
  scenes = list(found)
  covers = np.stack([clips.objects(scene)[0] for scene in scenes])
  both = np.concatenate([covers, _blurred(covers)])
  return scenes * 2, both.reshape(len(both), -1)


def _blurred(clips_NTHW: np.ndarray) -> np.ndarray:
  for axis in (2, 3):
    beside = np.roll(clips_NTHW, 1, axis) + np.roll(clips_NTHW, -1, axis)
    clips_NTHW = clips_NTHW / 2 + beside / 4
  return clips_NTHW


def _nearest(
  share: np.ndarray, seen: np.ndarray
) -> tuple[world.Scene, tuple[int, int]]:
  """The known movement nearest to what is covered, where that is seen; its shift."""
  scenes, covers = _movements()
  moved = [(-down, -right) for down, right in _SHIFTS]
  weight = np.stack([_shifted(seen, m) for m in moved]).astype(np.float32)
  weight = weight.reshape(len(moved), -1)
  wanted = np.stack([_shifted(share, m) for m in moved]).reshape(len(moved), -1)
  wanted = weight * wanted
  error = np.square(wanted).sum(1)[:, None] - 2 * wanted @ covers.T
  error += weight @ _squared().T
  shift, nearest = np.unravel_index(error.argmin(), error.shape)
  return scenes[nearest], _SHIFTS[shift]


@functools.cache
def _squared() -> np.ndarray:
  return np.square(_movements()[1])


def _shifted(clip_THW: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
  """The clip moved down and right; what comes in from outside is nothing."""
  down, right = shift
  moved = np.roll(clip_THW, shift, (1, 2))
  if down:
    moved[:, slice(0, down) if down > 0 else slice(down, None)] = 0
  if right:
    moved[:, :, slice(0, right) if right > 0 else slice(right, None)] = 0
  return moved


def _texture(
  frames: np.ndarray,
  painted: np.ndarray,
  scene: world.Scene,
  shift: tuple[int, int],
  where: np.ndarray,
) -> str:
  """The texture whose stripes or spots lie nearest to what the objects show."""
  if not where.any():
    return "solid"
  accent = _along(frames - painted, world.ACCENT - painted)[where]
  if accent.mean() < _ACCENTED:
    return "solid"
  error = {}
  for texture in world.TEXTURES:
    known = _shifted(
      clips.objects(dataclasses.replace(scene, texture=texture))[1], shift
    )
    error[texture] = float(np.square(known[where] - accent).sum())
  return min(error, key=lambda name: error[name])


def _off_background(apart: np.ndarray, rest: np.ndarray) -> float:
  count = rest.sum(0)
  steady = (apart * rest[..., None]).sum(0) / count.clip(1)[..., None]
  return _mean(np.abs(steady), count > 0)


def _flicker(apart: np.ndarray, rest: np.ndarray) -> float:
  bright = [
    _mean(a, r) if r.any() else np.nan for a, r in zip(apart, rest, strict=True)
  ]
  changes = np.abs(np.diff(bright))
  changes = changes[~np.isnan(changes)]
  return float(changes.mean()) if len(changes) else 255.0


def _mean(values: np.ndarray, where: np.ndarray) -> float:
  return float(values[where].mean()) if where.any() else 255.0


def _splatter(frames: np.ndarray) -> np.ndarray:
  """Where it is dark red, [T, H, W]; the edge of a red object on black is not."""
  red, green, blue = np.moveaxis(frames, -1, 0)
  bright = (red > 190) & (green < 90) & (blue < 90)
  dark = (red > 75) & (red < 175) & (green < 45) & (blue < 50) & (red > blue + 60)
  return dark & ~grown(bright)


def grown(mask_THW: np.ndarray) -> np.ndarray:
  """The mask and the pixels beside it."""
  padded = np.pad(mask_THW, ((0, 0), (1, 1), (1, 1)))
  down = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
  return down[..., :-2] | down[..., 1:-1] | down[..., 2:]


def _fire(frames: np.ndarray) -> np.ndarray:
  """Where the lower third is flame, [T, H, W]."""
  red, green, blue = np.moveaxis(frames, -1, 0)
  # The world's flames have all the red there is; a model draws some darker.
  flame = (red > 190) & (green > 85) & (green < 235) & (blue < 110)
  # An orange or yellow object is no fire: that spans the frame's whole width, above
  # what may be a bar.
  spans = flame[:, -4:-2].any(1).mean() > 0.6
  ground = np.arange(world.SIDE) >= world.SIDE * 2 // 3
  return flame & spans & ground[:, None]
