"""The measures behind the reward's questions; each is a number for one clip.

A check of a requested attribute is 1 (right) or 0 (wrong), and 1 if the query does not
name the attribute. Only the reward knows the query's meaning: neither the video model
nor the system that writes prompts does. The other checks compare the objects with the
nearest of the world's movements, at pixels that neither blood nor fire hides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from torch_bridge.miniature import lexicon, measure, world

_NOTHING = 1e3  # the distance if there is no object to measure
_FEW = 8  # pixels: frames with fewer expected object pixels are ignored


@dataclasses.dataclass(frozen=True)
class Seen:
  """A clip's reading and the attributes that its query asks for."""

  reading: measure.Reading
  wanted: dict[str, str]


def see(frames_THW3: np.ndarray, query: str) -> Seen:
  return Seen(measure.read(frames_THW3), lexicon.meant(query))


def _right(name: str) -> Callable[[Seen], float]:
  def check(seen: Seen) -> float:
    wanted = seen.wanted.get(name)
    return float(wanted is None or wanted == seen.reading.attributes[name])

  return check


def all_right(seen: Seen) -> float:
  return float(all(_right(name)(seen) for name in world.VISIBLE))


def flicker(seen: Seen) -> float:
  return seen.reading.flicker


def off_background(seen: Seen) -> float:
  return seen.reading.off_background


def grain(seen: Seen) -> float:
  return seen.reading.grain


def colour_change(seen: Seen) -> float:
  """Largest distance of the objects' colour in any frame from the median colour."""
  shown = seen.reading.colour[seen.reading.colour.any(1)]
  if not len(shown):
    return _NOTHING
  return float(np.linalg.norm(shown - np.median(shown, axis=0), axis=1).max())


def off_colour(seen: Seen) -> float:
  return seen.reading.off_colour


def presence(seen: Seen) -> float:
  """Share of the frames in which the objects are visible."""
  shares = _shares(seen)
  return float((shares > 0.5).mean()) if len(shares) else 0.0


def area_change(seen: Seen) -> float:
  """Relative standard deviation over frames of the objects' area / expected area."""
  shares = _shares(seen)
  return float(shares.std() / shares.mean()) if shares.any() else _NOTHING


def stray(seen: Seen) -> float:
  """Share of the objects' pixels that are far from their expected place."""
  mask, near = seen.reading.mask, seen.reading.expected
  for _ in range(2):
    near = measure.grown(near)
  return float((mask & ~near).sum() / mask.sum()) if mask.any() else _NOTHING


def misfit(seen: Seen) -> float:
  """1 - intersection / union with the expected objects, median over frames."""
  mask, expected = _usable(seen)
  if not len(mask):
    return 1.0
  both = (mask & expected).sum((1, 2)) / (mask | expected).sum((1, 2))
  return float(1 - np.median(both))


def unevenness(seen: Seen) -> float:
  """Root mean square distance of the objects' centre from its expected path, pixels."""
  off = _offsets(seen)
  if len(off) < 3:
    return _NOTHING
  return float(np.sqrt(np.square(off - off.mean(0)).sum(1).mean()))


def leap(seen: Seen) -> float:
  """Largest change between frames of the centre's offset from its path, pixels."""
  off = _offsets(seen)
  if len(off) < 2:
    return _NOTHING
  return float(np.linalg.norm(np.diff(off, axis=0), axis=1).max())


def cut(seen: Seen) -> float:
  """Share of the objects' pixels at the border of the frame."""
  mask = seen.reading.mask
  border = mask.copy()
  border[:, 1:-1, 1:-1] = False
  return float(border.sum() / mask.sum()) if mask.any() else _NOTHING


def splatter(seen: Seen) -> float:
  return seen.reading.splatter


def fire(seen: Seen) -> float:
  return seen.reading.fire


def _usable(seen: Seen) -> tuple[np.ndarray, np.ndarray]:
  """The mask and the expected objects, for frames with enough expected pixels."""
  enough = seen.reading.expected.sum((1, 2)) >= _FEW
  return seen.reading.mask[enough], seen.reading.expected[enough]


def _shares(seen: Seen) -> np.ndarray:
  """The objects' area as a share of the expected area, for each usable frame."""
  mask, expected = _usable(seen)
  return mask.sum((1, 2)) / expected.sum((1, 2))


def _offsets(seen: Seen) -> np.ndarray:
  """The offset of the objects' centre from its expected place, pixels, [T', 2]."""
  mask, expected = _usable(seen)
  shown = mask.sum((1, 2)) >= _FEW
  return _centres(mask[shown]) - _centres(expected[shown])


def _centres(mask_THW: np.ndarray) -> np.ndarray:
  rows, columns = np.mgrid[: mask_THW.shape[1], : mask_THW.shape[2]]
  area = mask_THW.sum((1, 2))
  return np.stack(
    [(mask_THW * axis).sum((1, 2)) / area for axis in (columns, rows)], axis=1
  )


CHECKS: dict[str, Callable[[Seen], float]] = {
  **{f"right_{name}": _right(name) for name in world.ATTRIBUTES},
  **{
    check.__name__: check
    for check in (
      all_right,
      flicker,
      off_background,
      grain,
      colour_change,
      off_colour,
      presence,
      area_change,
      stray,
      misfit,
      unevenness,
      leap,
      cut,
      splatter,
      fire,
    )
  },
}
