"""Draws a scene's clip: objects with smooth edges on a shaded background.

Legend: T frames, H rows, W columns.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from torch_bridge.miniature import world

_ROWS, _COLUMNS = np.mgrid[: world.SIDE, : world.SIDE].astype(np.float32)
_TIMES = np.arange(world.FRAMES, dtype=np.float32) - (world.FRAMES - 1) / 2
_GROWTH = np.linspace(0.6, 1.3, world.FRAMES)
_TURN = np.radians(12.0)  # per frame
_ORBIT = np.radians(34.0)
_RADIUS = 6.0  # of a single object's orbit, pixels; several objects orbit their centre
_HOP = 7.0  # height of a hop, pixels; two hops per clip
_STRIPE = 1.5  # half a stripe's width, pixels; gaps are as wide as stripes
_SPOT = 0.45  # a spot's radius, relative to half the object's width
_SHADE = 0.4  # brightness of the unlit part
_BARS, _BORDER = 2, 2  # pixels: height of cinematic bars; width of a frame's border
_FLAME_ROWS = 10
_BLOTS = 9


def render(scenes: Sequence[world.Scene]) -> np.ndarray:
  """One clip per scene, uint8 [B, T, H, W, 3]."""
  return np.stack([_clip(scene) for scene in scenes])


def _clip(scene: world.Scene) -> np.ndarray:
  empty = background(scene.background, scene.light)
  clip = np.repeat(empty[None], world.FRAMES, 0)
  if scene.hazard == "splatter":
    _splatter(clip, scene.phase)
  cover, accent = objects(scene)
  colour = np.array(world.COLOURS[scene.colour], np.float32)
  painted = colour + accent[..., None] * (np.array(world.ACCENT, np.float32) - colour)
  clip += cover[..., None] * (painted - clip)
  if scene.hazard == "fire":
    _burn(clip, scene.phase)
  clip[:, ~within(scene.style)] = edge(scene.style)
  return np.rint(clip).astype(np.uint8)


def objects(scene: world.Scene) -> tuple[np.ndarray, np.ndarray]:
  """Coverage of each pixel by objects and by stripes or spots, 0 to 1, [T, H, W]."""
  cover, accent = np.zeros((2, world.FRAMES, world.SIDE, world.SIDE), np.float32)
  half = _halves(scene)[:, None, None]
  for x, y in _from_centres(scene):
    if scene.motion == "turning":
      angle = (_TURN * _TIMES)[:, None, None]
      across = np.cos(angle) * x + np.sin(angle) * y
      x, y = across, np.cos(angle) * y - np.sin(angle) * x
    here = np.clip(0.5 - DISTANCES[scene.shape](x, y, half), 0, 1)
    np.maximum(cover, here, out=cover)
    if scene.texture != "solid":
      np.copyto(accent, _accent(scene, x, y, half), where=here > 0)
  return cover, accent


def _accent(
  scene: world.Scene, x: np.ndarray, y: np.ndarray, half: np.ndarray
) -> np.ndarray:
  if scene.texture == "striped":
    outside = np.abs((y + 2 * _STRIPE) % (4 * _STRIPE) - 2 * _STRIPE) - _STRIPE
  else:
    outside = np.hypot(x, y - SINK[scene.shape] * half) - _SPOT * half
  return np.clip(0.5 - outside, 0, 1)


def around(scene: world.Scene) -> np.ndarray:
  """Pixels that objects of the scene's size may cover, in any shape: bool [T, H, W]."""
  half = _halves(scene)[:, None, None] + 0.5
  boxes = [np.maximum(np.abs(x), np.abs(y)) < half for x, y in _from_centres(scene)]
  return np.logical_or.reduce(boxes)


def _halves(scene: world.Scene) -> np.ndarray:
  """Half an object's width, [T]."""
  growth = {"growing": _GROWTH, "shrinking": _GROWTH[::-1]}.get(scene.motion)
  share = np.ones(world.FRAMES) if growth is None else growth
  return (scene.half * share).astype(np.float32)


def _from_centres(scene: world.Scene) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Each pixel's distance from each object's centre, right and down, [T, H, W]."""
  right, down = np.zeros((2, world.FRAMES), np.float32)
  angle = np.zeros(world.FRAMES, np.float32)
  places = world.COUNTS[scene.count]
  if scene.motion in world.DIRECTIONS:
    speed = world.SPEEDS[scene.speed or "slowly"]
    right, down = np.outer(world.DIRECTIONS[scene.motion], speed * _TIMES)
  elif scene.motion == "bouncing":
    # Up from the ground and back, twice.
    down = _HOP * (0.6 - np.abs(np.sin(np.pi / 4 * _TIMES)))
  elif scene.motion == "orbiting":
    angle = _ORBIT * _TIMES
    places = places if len(places) > 1 else ((0.0, -_RADIUS),)
  for x, y in places:
    centre_x = scene.x + right + np.cos(angle) * x - np.sin(angle) * y
    centre_y = scene.y + down + np.cos(angle) * y + np.sin(angle) * x
    yield (
      _COLUMNS - centre_x.astype(np.float32)[:, None, None],
      _ROWS - centre_y.astype(np.float32)[:, None, None],
    )


@functools.cache
def background(name: str, light: str = "even") -> np.ndarray:
  """An empty frame, float32 [H, W, 3], 0 to 255."""
  first, last = np.array(world.BACKGROUNDS[name], np.float32)
  depth = np.linspace(0, 1, world.SIDE, dtype=np.float32)[:, None, None]
  share = np.ones((world.SIDE, world.SIDE, 1), np.float32)
  middle = (world.SIDE - 1) / 2
  if light == "central":
    away = np.hypot(_ROWS - middle, _COLUMNS - middle) - 0.6 * middle
    share = 1 - (1 - _SHADE) * np.clip(away / (0.6 * middle), 0, 1)[..., None]
  elif light == "lateral":
    share = 1 - (1 - _SHADE) * (_COLUMNS / (world.SIDE - 1))[..., None]
  frame = share * (first + depth * (last - first))
  frame.flags.writeable = False
  return frame


@functools.cache
def within(style: str) -> np.ndarray:
  """Pixels at which a clip of the style shows the scene: bool [H, W]."""
  shown = np.zeros((world.SIDE, world.SIDE), bool)
  rows = {"cinematic": _BARS, "framed": _BORDER}.get(style, 0)
  columns = _BORDER if style == "framed" else 0
  shown[rows : world.SIDE - rows, columns : world.SIDE - columns] = True
  return shown


def edge(style: str) -> np.ndarray:
  """The colour of a style's bars or border, float32 [3]."""
  return np.array(world.FRAME if style == "framed" else (0, 0, 0), np.float32)


def _circle(x: np.ndarray, y: np.ndarray, half: np.ndarray) -> np.ndarray:
  return np.hypot(x, y) - half


def _square(x: np.ndarray, y: np.ndarray, half: np.ndarray) -> np.ndarray:
  return np.maximum(np.abs(x), np.abs(y)) - 0.9 * half


def _triangle(x: np.ndarray, y: np.ndarray, half: np.ndarray) -> np.ndarray:
  # Pointing up, as wide as it is high.
  side = (2 * np.abs(x) + -y - half) / np.sqrt(np.float32(5))
  return np.maximum(side, y - half)


# Signed distance to each outline in pixels, negative inside.
DISTANCES = {"circle": _circle, "square": _square, "triangle": _triangle}
# How far a shape's centre of mass is below its middle, in half-widths.
SINK = {"circle": 0.0, "square": 0.0, "triangle": 1 / 3}


def _burn(clip_THW3: np.ndarray, phase: int) -> None:
  """Draws flames along the ground that change from frame to frame."""
  for time, frame in enumerate(clip_THW3):
    heat = np.sin(0.9 * _COLUMNS[0] + phase + 1.7 * time)
    heat = heat + np.sin(0.41 * _COLUMNS[0] + 0.7 * phase - 1.1 * time)
    height = _FLAME_ROWS * (0.62 + 0.19 * heat)
    depth = _ROWS - (world.SIDE - height)
    cover = np.clip(depth + 0.5, 0, 1)[..., None]
    inner = np.clip(depth / _FLAME_ROWS, 0, 1)[..., None]
    low, high = np.array(world.FLAMES, np.float32)
    frame += cover * (low + inner * (high - low) - frame)


def _splatter(clip_THW3: np.ndarray, phase: int) -> None:
  """Draws dark red blots that grow."""
  random = world.generator(phase)
  places = random.uniform(2, world.SIDE - 2, (_BLOTS, 2))
  sizes = random.uniform(1.8, 3.6, _BLOTS)
  for time, frame in enumerate(clip_THW3):
    grown = 0.5 + 0.5 * time / (world.FRAMES - 1)
    for (x, y), size in zip(places, sizes, strict=True):
      outside = np.hypot(_COLUMNS - x, _ROWS - y) - size * grown
      cover = np.clip(0.5 - outside, 0, 1)[..., None].astype(np.float32)
      frame += cover * (np.array(world.SPLATTER, np.float32) - frame)
