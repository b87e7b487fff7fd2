"""What the reward's questions measure. Each check is a number of one clip.

A check of something asked for is 1 (right) or 0 (wrong), and 1 where the query does not
ask for it. The query's meaning is known to nobody else: neither to the video model nor
to what writes its prompts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from torch_bridge.miniature import lexicon, measure, world

_NOTHING = 1e3  # a distance, where there is no object to measure


@dataclasses.dataclass(frozen=True)
class Seen:
  """A clip's reading and what its query asks for."""

  reading: measure.Reading
  wanted: dict[str, str]


def see(frames_THW3: np.ndarray, query: str) -> Seen:
  wanted = {name: values[0] for name, values in lexicon.read(query).items()}
  return Seen(measure.read(frames_THW3), wanted)


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
  """Largest distance of the object's colour in a frame from its median."""
  found = seen.reading.colour[_found(seen)]
  if not len(found):
    return _NOTHING
  return float(np.linalg.norm(found - np.median(found, axis=0), axis=1).max())


def off_colour(seen: Seen) -> float:
  return seen.reading.off_colour


def presence(seen: Seen) -> float:
  """Share of the frames in which the object is there."""
  return float(_found(seen).mean())


def area_change(seen: Seen) -> float:
  """Standard deviation of the object's area over the frames, relative to its mean."""
  area = seen.reading.area
  return float(area.std() / area.mean()) if area.any() else _NOTHING


def stray(seen: Seen) -> float:
  """Share of the object's pixels that lie far from its centre."""
  found = _found(seen)
  if not found.any():
    return _NOTHING
  far = 0
  for inside, (x, y) in zip(
    seen.reading.mask[found], seen.reading.centre[found], strict=True
  ):
    rows, columns = np.nonzero(inside)
    far += int((np.hypot(columns - x, rows - y) > 1.7 * seen.reading.half).sum())
  return far / float(seen.reading.area[found].sum())


def misfit(seen: Seen) -> float:
  return seen.reading.misfit


def unevenness(seen: Seen) -> float:
  """Distance of the object's centre from an even motion, pixels, root mean square."""
  found = _found(seen)
  if found.sum() < 3:
    return _NOTHING
  times, centre = np.nonzero(found)[0], seen.reading.centre[found]
  even = [np.polyval(np.polyfit(times, axis, 1), times) for axis in centre.T]
  return float(np.sqrt(np.square(np.stack(even, 1) - centre).sum(1).mean()))


def leap(seen: Seen) -> float:
  """The longest way of the object's centre from one frame to the next, pixels."""
  found = _found(seen)
  if found.sum() < 2:
    return _NOTHING
  ways = np.linalg.norm(np.diff(seen.reading.centre[found], axis=0), axis=1)
  return float(ways.max())


def cut(seen: Seen) -> float:
  """Share of the object's pixels on the border of the frame."""
  mask = seen.reading.mask
  border = mask.copy()
  border[:, 1:-1, 1:-1] = False
  return float(border.sum() / mask.sum()) if mask.any() else _NOTHING


def splatter(seen: Seen) -> float:
  return seen.reading.splatter


def fire(seen: Seen) -> float:
  return seen.reading.fire


def _found(seen: Seen) -> np.ndarray:
  return ~np.isnan(seen.reading.centre[:, 0])


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
