"""Reads a clip's attributes from its frames.

The backdrop is the nearest one of the world. Objects are the pixels that differ from
it; the nearest of the world's object movements gives their count, size, shape and
motion. Blood and fire are detected too, and the pixels that they hide are ignored.

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

# Colour distances are from 0 to 255 per channel.
_APART = 45.0  # smallest distance between an object and the backdrop
_FEW = 8  # pixels: fewer do not count as an object
_NEAR = 90.0  # largest distance of a pixel to its named colour
_STRAYED = 60.0  # larger distances to a backdrop are clipped
_SHIFTS = tuple(itertools.product((-1, 0, 1), repeat=2))  # down and right, pixels
_ACCENTED = 0.06  # share of accent colour below which objects are solid
_SPLATTERED = 0.03  # share of blood pixels above which the hazard is "splatter"
_BURNT = 0.06  # share of flame pixels above which the hazard is "fire"


@dataclasses.dataclass(frozen=True)
class Reading:
  """The measurements of a clip.

  Attributes:
    attributes: a value for each of `world.ATTRIBUTES`; "" if none was found.
    mask: visible pixels of the objects, [T, H, W].
    expected: the same for the nearest known movement.
    colour: median of the objects' pixels, 0 to 255, [T, 3].
    off_colour: distance of their colour to the nearest named one, 0 to 255.
    off_background: mean distance of the backdrop to the nearest known one.
    flicker: mean change of the backdrop's brightness between frames, 0 to 255.
    grain: mean distance of the visible backdrop's pixels to the nearest known one.
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
  """Measures a clip, uint8 [T, H, W, 3]; other sizes are resampled to the world's."""
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
  # mp4 compression spreads a hazard's colours around it.
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
  """The part of a reading that concerns the objects."""

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
  # An edge pixel mixes the object's colour with the backdrop's.
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
  """The nearest background, light and style, and their empty frame."""
  names, empties = _empties()
  # Clipped, so that objects in front count the same for every backdrop.
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
  """The most common nearest colour, its distance, and the mask of its pixels."""
  named = np.array([*world.COLOURS.values(), world.ACCENT], np.float32)
  distance = np.linalg.norm(frames[mask][:, None] - named, axis=-1)
  nearest = np.where(distance.min(1) < _NEAR, distance.argmin(1), len(named))
  # A mixture of two colours may be near a third; pure pixels get larger votes.
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


def _along(apart: np.ndarray, direction: np.ndarray) -> np.ndarray:
  """Each pixel's projection onto a colour difference, as a share from 0 to 1."""
  share = (apart * direction).sum(-1) / np.square(direction).sum(-1).clip(1)
  return share.clip(0, 1)


@functools.cache
def _movements() -> tuple[list[world.Scene], np.ndarray]:
  """Every movement of the world and its coverage, [N, T * H * W].

  Each is listed twice, sharp and blurred, because mp4 compression blurs colours.
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
    neighbours = np.roll(clips_NTHW, 1, axis) + np.roll(clips_NTHW, -1, axis)
    clips_NTHW = clips_NTHW / 2 + neighbours / 4
  return clips_NTHW


def _nearest(
  share: np.ndarray, seen: np.ndarray
) -> tuple[world.Scene, tuple[int, int]]:
  """The known movement nearest to the coverage at visible pixels, and its shift."""
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
  """The clip shifted down and right, filled with zeros."""
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
  """The texture whose stripes or spots are nearest to those of the objects."""
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
  """Dark red pixels, [T, H, W], except edges of red objects on black."""
  red, green, blue = np.moveaxis(frames, -1, 0)
  bright = (red > 190) & (green < 90) & (blue < 90)
  dark = (red > 75) & (red < 175) & (green < 45) & (blue < 50) & (red > blue + 60)
  return dark & ~grown(bright)


def grown(mask_THW: np.ndarray) -> np.ndarray:
  """The mask and its neighbouring pixels."""
  padded = np.pad(mask_THW, ((0, 0), (1, 1), (1, 1)))
  down = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
  return down[..., :-2] | down[..., 1:-1] | down[..., 2:]


def _fire(frames: np.ndarray) -> np.ndarray:
  """Flame pixels in the lower third, [T, H, W]."""
  red, green, blue = np.moveaxis(frames, -1, 0)
  # The world's flames have full red; a video model draws some darker.
  flame = (red > 190) & (green > 85) & (green < 235) & (blue < 110)
  # Fire spans the frame's width, unlike an orange or yellow object. The lowest two
  # rows may be a bar.
  spans = flame[:, -4:-2].any(1).mean() > 0.6
  ground = np.arange(world.SIDE) >= world.SIDE * 2 // 3
  return flame & spans & ground[:, None]
