"""Writes, reads and checks mp4 files."""

from __future__ import annotations

import fractions
import pathlib
from typing import Any

import av
import av.error
import av.video.reformatter
import numpy as np

# In levels of 255. A frame with a smaller standard deviation is one flat colour, as
# rendered by a pipeline whose activations overflowed.
_FLAT = 1.0
_BLACK = 4.0
# How far compression may move a frame's mean colour. Single pixels may move further,
# since 4:2:0 keeps a quarter of the colour samples.
_DRIFT = 16.0


class BadVideo(ValueError):
  """The frames cannot be scored; the message says why."""


def check_frames(frames: np.ndarray, count: int) -> np.ndarray:
  """The frames as uint8 [T, H, W, 3], if they can be scored.

  Args:
    frames: [T, H, W, 3], uint8 or float from 0 to 1.
    count: how many frames there must be.

  Raises:
    BadVideo: too few frames, values that are not finite, or frames that are all black
      or each one flat colour.
  """
  if frames.ndim != 4 or frames.shape[-1] != 3:
    raise BadVideo(f"frames of shape {frames.shape}, not [T, H, W, 3]")
  if len(frames) < count:
    raise BadVideo(f"short: {len(frames)} frames of {count}")
  if frames.dtype != np.uint8:
    if not np.isfinite(frames).all():
      raise BadVideo("frames hold NaN or infinity")
    frames = np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)
  if frames.max() <= _BLACK:
    raise BadVideo("black: no pixel is brighter than 4 of 255")
  # Every eighth pixel suffices in most cases; all pixels take a second at full size.
  if not any(map(_varies, frames[:, ::8, ::8])) and not any(map(_varies, frames)):
    raise BadVideo("constant: every frame is one flat colour")
  return frames


def write(
  path: str | pathlib.Path, frames: np.ndarray, fps: float, encoding: dict[str, Any]
) -> None:
  """Writes uint8 frames [T, H, W, 3] as an mp4 file and checks it by reading it.

  Args:
    encoding: `codec` (such as "libx264") and `crf`.

  Raises:
    BadVideo: the file does not hold the frames that were written.
  """
  rate = fractions.Fraction(fps).limit_denominator(1001)
  height, width = frames.shape[1:3]
  if height % 2 or width % 2:
    raise BadVideo(f"{width}x{height}: mp4 needs an even width and height")
  with av.open(str(path), "w", format="mp4") as container:
    # One thread, so that every machine writes the same bytes.
    options = {"crf": str(encoding["crf"]), "threads": "1"}
    if encoding["codec"] == "libx264":
      # Otherwise rounding depends on the alignment of the frames in memory.
      options["x264-params"] = "cpu-independent=1"
    stream: Any = container.add_stream(encoding["codec"], rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    for frame in frames:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    container.mux(stream.encode(None))
  back, _ = read(path)
  if back.shape != frames.shape:
    raise BadVideo(f"the file holds {back.shape}, not {frames.shape} as written")
  drift = np.abs(_colours(back) - _colours(frames)).max()
  if drift > _DRIFT:
    raise BadVideo(f"colours in the file moved by {drift:.0f} of 255")


def _varies(frame: np.ndarray) -> bool:
  return float(frame.std(axis=(0, 1)).max()) >= _FLAT


def _colours(frames: np.ndarray) -> np.ndarray:
  """Each frame's mean colour over every fourth row, [T, 3]."""
  rows = frames[:, ::4]
  return rows.sum(axis=1, dtype=np.uint32).mean(axis=1) / rows.shape[1]


def read(path: str | pathlib.Path) -> tuple[np.ndarray, float]:
  """Frames as uint8 [T, H, W, 3], and frames per second.

  Raises:
    BadVideo: not a video file, or a truncated one.
  """
  try:
    with av.open(str(path)) as container:
      stream = container.streams.video[0]
      stream.codec_context.thread_count = 1  # our files have one slice a frame
      rate = float(stream.average_rate or 0)
      # Reused: a new one for each frame takes longer than decoding a small frame.
      rgb = av.video.reformatter.VideoReformatter()
      frames = [
        rgb.reformat(frame, format="rgb24").to_ndarray()
        for frame in container.decode(stream)
      ]
  except (av.error.FFmpegError, IndexError) as error:
    raise BadVideo(f"{path}: not a complete video file: {error}") from error
  if not frames or not rate:
    raise BadVideo(f"{path}: holds no frames")
  return np.stack(frames), rate
