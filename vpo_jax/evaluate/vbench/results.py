"""Reads VBench's result files, and checks every number that can be checked.

VBench writes `{dimension: [score, [one object per video]]}`. VBench-Long writes
`[score, [one per clip], [one per video]]`. It groups the clips by their own paths, so
that its last list has a row per clip too, and its score is the mean over all clips (of
the two consistency dimensions it writes one list only). The last list is not read.

VBench scores without the videos that it does not find, and says so only in its log.
"""

import dataclasses
import itertools
import math
import os
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vpo_jax import errors, json_input
from vpo_jax.evaluate.vbench import layout

_TOLERANCE = 1e-6
_COUNTED = ("scene", "multiple_objects", "object_class")
# VBench leaves out the videos in which it does not detect the object.
_PARTIAL = ("color",)
_SCALE = {"imaging_quality": 100}  # of the values per video


@dataclasses.dataclass(frozen=True)
class Result:
  """A dimension's result, from 0 to 1 (as VBench writes it).

  Attributes:
    score: over all videos.
    values: by video; of VBench-Long, the mean over the video's clips.
    unscored: videos that VBench left out, because it detects no object in them (only
      in `color`).
  """

  dimension: str
  score: float
  values: dict[layout.Video, float]
  unscored: int


def read(
  path: str | os.PathLike, dimension: str, videos: Iterable[layout.Video]
) -> Result:
  """Reads the result of one dimension from `*_eval_results.json`.

  The score of appearance_style is computed from its frames, because with several GPUs
  VBench writes the mean over the last frame of each video instead.

  Args:
    videos: all that were to be scored.

  Raises:
    UserError: the file has another form, a number is not finite, videos are missing or
      not expected, or the score is not the one that the videos' values give.
  """
  written, rows = _entry(path, dimension)
  by_name = {layout.name(*video): video for video in videos}
  values: dict[layout.Video, list[float]] = {}
  for number, row in enumerate(rows):
    where = f"{path}: {dimension}: result {number}"
    video = by_name[_video_name(row, where, by_name)]
    found = values.setdefault(video, [])
    if found and not _is_clip(row["video_path"]):
      raise errors.UserError(f"{where}: a second one of {layout.name(*video)}")
    found.append(_value(row, where, dimension) / _SCALE.get(dimension, 1))
  unscored = len(by_name) - len(values)
  if not values or (unscored and dimension not in _PARTIAL):
    first = next(name for name, video in by_name.items() if video not in values)
    raise errors.UserError(
      f"{path}: {dimension}: {unscored} of {len(by_name)} videos have no result; the"
      f" first is {first}"
    )
  score = _score(f"{path}: {dimension}", dimension, written, rows, values)
  means = {video: statistics.fmean(found) for video, found in values.items()}
  return Result(dimension, score, means, unscored)


def found_videos(path: str | os.PathLike, dimension: str) -> int:
  """How many videos VBench found for a dimension, from `*_full_info.json`.

  Raises:
    UserError: the file has another form.
  """
  rows = json_input.value(path)
  try:
    paths = [
      pathlib.PurePath(video)
      for row in rows
      if dimension in row["dimension"]
      for video in row["video_list"]
    ]
  except (KeyError, TypeError) as error:
    raise errors.UserError(f"{path}: not VBench's list of videos") from error
  # A clip is in a folder that is named like its video.
  return len({p.parent.name if _is_clip(str(p)) else p.name for p in paths})


def _is_clip(path: str) -> bool:
  return "split_clip" in pathlib.PurePath(path).parts


def _entry(
  path: str | os.PathLike, dimension: str
) -> tuple[Any, Sequence[Mapping[str, Any]]]:
  """The score as it is written, and the rows."""
  found = json_input.value(path)
  entry = found.get(dimension) if isinstance(found, dict) else None
  if entry is None:
    raise errors.UserError(f"{path}: has no result of {dimension}")
  lists = entry[1:] if isinstance(entry, list) else []
  if len(lists) not in (1, 2) or not all(isinstance(rows, list) for rows in lists):
    raise errors.UserError(
      f"{path}: {dimension}: not [score, results of videos] as VBench writes it"
    )
  if not all(isinstance(row, dict) for row in itertools.chain(*lists)):
    raise errors.UserError(f"{path}: {dimension}: a result is not an object")
  return entry[0], entry[1]


def _video_name(
  row: Mapping[str, Any], where: str, expected: Mapping[str, layout.Video]
) -> str:
  """The video's file name; a clip is named `{video}_{number}.mp4` or `_full.mp4`."""
  path = row.get("video_path")
  if not isinstance(path, str):
    raise errors.UserError(f"{where}: no video_path")
  name = pathlib.PurePath(path).name
  if name in expected:
    return name
  whole = name.rpartition("_")[0] + ".mp4"
  if whole in expected:
    return whole
  raise errors.UserError(f"{where}: {name!r} is not one of the videos to score")


def _number(value: Any, where: str) -> float:
  if not isinstance(value, bool | int | float) or not math.isfinite(value):
    raise errors.UserError(f"{where}: {value!r} is not a finite number")
  return float(value)


def _value(row: Mapping[str, Any], where: str, dimension: str) -> float:
  """A row's own value, checked against the row's frames."""
  value = _number(row.get("video_results"), where)
  again = None
  if dimension in _COUNTED:
    success, frames = _counts(row, where)
    again = success / frames
  elif dimension == "appearance_style":
    again = statistics.fmean(_frames(row, where))
  if again is not None and abs(again - value) > _TOLERANCE:
    raise errors.UserError(f"{where}: {value} differs from its frames' {again}")
  return value


def _counts(row: Mapping[str, Any], where: str) -> tuple[float, float]:
  names = ("success_frame_count", "frame_count")
  success, frames = (_number(row.get(name), f"{where}: {name}") for name in names)
  if not 0 <= success <= frames or not frames:
    raise errors.UserError(f"{where}: {success:g} of {frames:g} frames")
  return success, frames


def _frames(row: Mapping[str, Any], where: str) -> list[float]:
  frames = row.get("frame_results")
  if not isinstance(frames, list) or not frames:
    raise errors.UserError(f"{where}: no frame_results")
  return [_number(value, f"{where}: frame_results") for value in frames]


def _score(
  where: str,
  dimension: str,
  written: Any,
  rows: Sequence[Mapping[str, Any]],
  values: Mapping[layout.Video, Sequence[float]],
) -> float:
  """The score, checked against the rows.

  Of subject_consistency the file lacks the weights (each video's number of frames), so
  that only its range can be checked.
  """
  score = _number(written, f"{where}: score")
  every = list(itertools.chain(*values.values()))
  right = _recomputed(where, dimension, rows, values)
  if dimension == "subject_consistency":
    agrees = min(every) - _TOLERANCE <= score <= max(every) + _TOLERANCE
  else:
    agrees = any(abs(score - one) <= _TOLERANCE for one in right)
  if not agrees:
    raise errors.UserError(
      f"{where}: the score {score:.6f} is not the one of its videos, {right[0]:.6f}"
    )
  if dimension == "appearance_style" and not _is_clip(rows[0]["video_path"]):
    return right[0]
  return score


def _recomputed(
  where: str,
  dimension: str,
  rows: Sequence[Mapping[str, Any]],
  values: Mapping[layout.Video, Sequence[float]],
) -> list[float]:
  """The scores that VBench may compute from the rows, the right one first.

  In some dimensions it weighs the videos in another way with several GPUs.
  """
  mean = statistics.fmean(itertools.chain(*values.values()))
  if _is_clip(rows[0]["video_path"]):
    return [mean, statistics.fmean(map(statistics.fmean, values.values()))]
  if dimension in _COUNTED:
    counts = [_counts(row, where) for row in rows]
    return [sum(one for one, _ in counts) / sum(frames for _, frames in counts)]
  if dimension in ("appearance_style", "spatial_relationship"):
    frames = [_frames(row, where) for row in rows]
    right = statistics.fmean(itertools.chain(*frames))
    if dimension == "spatial_relationship":
      return [right, mean]
    return [right, statistics.fmean(one[-1] for one in frames)]
  if dimension == "background_consistency":
    sums = [
      sum(_number(row.get(name), f"{where}: {name}") for row in rows)
      for name in ("video_sim", "cnt_per_video")
    ]
    return [sums[0] / sums[1] if sums[1] else math.nan]
  return [mean]
