"""mp4 files: written, read back, and found wanting before anyone scores them."""

from __future__ import annotations

import fractions
import pathlib
from typing import Any

import av
import av.error
import av.video.reformatter
import numpy as np

# Videos whose frames vary less than this from pixel to pixel are one flat colour,
# which is what a pipeline that overflowed gives. In levels of 255.
_FLAT = 1.0
_BLACK = 4.0
# How far compression may move a frame's mean colour, in levels of 255. (Single pixels
# may move more: 4:2:0 keeps a quarter of the colour.)
_DRIFT = 16.0


class BadVideo(ValueError):
  """Frames that no scorer should see; its text says why."""


def check_frames(frames: np.ndarray, wanted: int) -> np.ndarray:
  """Frames as uint8 [T, H, W, 3], if they are a video.

  Args:
    frames: uint8, or float in 0 to 1, [T, H, W, 3].
    wanted: how many frames were asked for.

  Raises:
    BadVideo: not finite, too few frames, black, or one flat colour throughout.
  """
  if frames.ndim != 4 or frames.shape[-1] != 3:
    raise BadVideo(f"frames of shape {frames.shape}, not [T, H, W, 3]")
  if len(frames) < wanted:
    raise BadVideo(f"short: {len(frames)} frames of {wanted}")
  if frames.dtype != np.uint8:
    if not np.isfinite(frames).all():
      raise BadVideo("frames hold NaN or infinity")
    frames = np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)
  if frames.max() <= _BLACK:
    raise BadVideo("black: no pixel is brighter than 4 of 255")
  # A few pixels tell in most cases, and all of them take a second at full size.
  if not any(map(_varies, frames[:, ::8, ::8])) and not any(map(_varies, frames)):
    raise BadVideo("constant: every frame is one flat colour")
  return frames


def write(
  path: str | pathlib.Path, frames: np.ndarray, fps: float, encoding: dict[str, Any]
) -> None:
  """Writes uint8 frames [T, H, W, 3] as an mp4 and reads them back.

  Args:
    encoding: `codec` (such as "libx264") and `crf`.

  Raises:
    BadVideo: what is read back is not what was written.
  """
  rate = fractions.Fraction(fps).limit_denominator(1001)
  height, width = frames.shape[1:3]
  if height % 2 or width % 2:
    raise BadVideo(f"{width}x{height}: mp4 needs even sides")
  with av.open(str(path), "w", format="mp4") as container:
    # One thread: the same bytes whatever the machine has.
    options = {"crf": str(encoding["crf"]), "threads": "1"}
    if encoding["codec"] == "libx264":
      # And wherever in memory the frames lie: without it, alignment decides roundings.
      options["x264-params"] = "cpu-independent=1"
    stream: Any = container.add_stream(encoding["codec"], rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    for frame in frames:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    container.mux(stream.encode(None))
  back, _ = read(path)
  if back.shape != frames.shape:
    raise BadVideo(f"the file holds {back.shape}, not the {frames.shape} written")
  drift = np.abs(_colours(back) - _colours(frames)).max()
  if drift > _DRIFT:
    raise BadVideo(f"colours in the file moved by {drift:.0f} of 255")


def _varies(frame: np.ndarray) -> bool:
  return float(frame.std(axis=(0, 1)).max()) >= _FLAT


def _colours(frames: np.ndarray) -> np.ndarray:
  """Each frame's mean colour, of every fourth row."""
  rows = frames[:, ::4]
  return rows.sum(axis=1, dtype=np.uint32).mean(axis=1) / rows.shape[1]


def read(path: str | pathlib.Path) -> tuple[np.ndarray, float]:
  """Frames as uint8 [T, H, W, 3], and frames per second.

  Raises:
    BadVideo: not a video file, or one cut short.
  """
  try:
    with av.open(str(path)) as container:
      stream = container.streams.video[0]
      stream.codec_context.thread_count = 1  # our files have one slice a frame
      rate = float(stream.average_rate or 0)
      # Made anew for each frame, it takes longer than decoding a small one.
      rgb = av.video.reformatter.VideoReformatter()
      frames = [
        rgb.reformat(frame, format="rgb24").to_ndarray()
        for frame in container.decode(stream)
      ]
  except (av.error.FFmpegError, IndexError) as error:
    raise BadVideo(f"{path}: not a whole video file: {error}") from error
  if not frames or not rate:
    raise BadVideo(f"{path}: no frames in it")
  return np.stack(frames), rate
