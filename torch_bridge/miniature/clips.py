"""A scene's clip: an object with smooth edges before a shaded background.

Legend: B clips, T frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from torch_bridge.miniature import world

_ROWS, _COLUMNS = np.mgrid[: world.SIDE, : world.SIDE].astype(np.float32)
_FLAME_ROWS = 9
_BLOTS = 9


def render(scenes: Sequence[world.Scene]) -> np.ndarray:
  """The clips, uint8 [B, T, H, W, 3]."""
  half_B = np.array([world.SIZES[s.size] for s in scenes], np.float32)
  colour_B3 = np.array([world.COLOURS[s.colour] for s in scenes], np.float32)

  clip = np.stack([_background(s) for s in scenes])
  for row, scene in enumerate(scenes):
    if scene.hazard == "splatter":
      _splatter(clip[row], scene.phase)
  x, y = _from_centre(scenes)
  cover = np.empty(x.shape, np.float32)
  for name, distance in DISTANCES.items():
    rows = [i for i, s in enumerate(scenes) if s.shape == name]
    outside = distance(x[rows], y[rows], half_B[rows, None, None, None])
    cover[rows] = np.clip(0.5 - outside, 0, 1)
  clip += cover[..., None] * (colour_B3[:, None, None, None] - clip)
  for row, scene in enumerate(scenes):
    if scene.hazard == "fire":
      _burn(clip[row], scene.phase)
  return np.rint(clip).astype(np.uint8)


def around(scenes: Sequence[world.Scene]) -> np.ndarray:
  """Where an object of the scene's size may be, of any shape: bool [B, T, H, W]."""
  half_B = np.array([world.SIZES[s.size] for s in scenes], np.float32)
  x, y = _from_centre(scenes)
  return np.maximum(np.abs(x), np.abs(y)) < half_B[:, None, None, None] + 0.5


def _from_centre(scenes: Sequence[world.Scene]) -> tuple[np.ndarray, np.ndarray]:
  """Each pixel's distance from the object's centre, right and down, [B, T, H, W]."""
  times = np.arange(world.FRAMES, dtype=np.float32) - (world.FRAMES - 1) / 2
  speed_B2 = np.array([world.MOTIONS[s.motion] for s in scenes], np.float32)
  centre_B2 = np.array([(s.x, s.y) for s in scenes], np.float32)
  centre_BT2 = centre_B2[:, None] + speed_B2[:, None] * times[:, None]
  x = _COLUMNS - centre_BT2[:, :, 0, None, None]
  y = _ROWS - centre_BT2[:, :, 1, None, None]
  return x, y


def background(name: str) -> np.ndarray:
  """One frame with nothing in it, float32 [H, W, 3], 0 to 255."""
  first, last = np.array(world.BACKGROUNDS[name], np.float32)
  share = np.linspace(0, 1, world.SIDE, dtype=np.float32)[:, None, None]
  return np.broadcast_to(
    first + share * (last - first), (world.SIDE, world.SIDE, 3)
  ).copy()


def _background(scene: world.Scene) -> np.ndarray:
  return np.repeat(background(scene.background)[None], world.FRAMES, 0)


def _circle(x: np.ndarray, y: np.ndarray, half: np.ndarray) -> np.ndarray:
  return np.hypot(x, y) - half


def _square(x: np.ndarray, y: np.ndarray, half: np.ndarray) -> np.ndarray:
  return np.maximum(np.abs(x), np.abs(y)) - 0.9 * half


def _triangle(x: np.ndarray, y: np.ndarray, half: np.ndarray) -> np.ndarray:
  # Its point is up; as wide as it is high.
  side = (2 * np.abs(x) + -y - half) / np.sqrt(np.float32(5))
  return np.maximum(side, y - half)


# The distance to each outline, in pixels, negative inside.
DISTANCES = {"circle": _circle, "square": _square, "triangle": _triangle}


def _burn(clip_THW3: np.ndarray, phase: int) -> None:
  """Tongues of flame along the ground, that leap from frame to frame."""
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
  """Dark red blots that grow."""
  random = world.generator(phase)
  places = random.uniform(2, world.SIDE - 2, (_BLOTS, 2))
  sizes = random.uniform(1.8, 3.6, _BLOTS)
  for time, frame in enumerate(clip_THW3):
    grown = 0.5 + 0.5 * time / (world.FRAMES - 1)
    for (x, y), size in zip(places, sizes, strict=True):
      outside = np.hypot(_COLUMNS - x, _ROWS - y) - size * grown
      cover = np.clip(0.5 - outside, 0, 1)[..., None].astype(np.float32)
      frame += cover * (np.array(world.SPLATTER, np.float32) - frame)
