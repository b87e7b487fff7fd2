"""What can be measured on a video's frames. Luma is 0 (black) to 1 (white).

Legend: T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class Frames:
  """A decoded video, with what several measures need worked out once."""

  def __init__(self, frames_THWC: np.ndarray):
    self.rgb = frames_THWC.astype(np.float32) / 255
    # ITU-R BT.601, the weights of the mp4's own luma.
    self.luma = self.rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    self.steps = np.diff(self.luma, axis=0)


def exposure(video: Frames) -> float:
  """Mean luma."""
  return float(video.luma.mean())


def clipping(video: Frames) -> float:
  """Share of pixels that are all but black or all but white."""
  return float(((video.luma < 0.02) | (video.luma > 0.98)).mean())


def contrast(video: Frames) -> float:
  """Luma between the 5th and the 95th percentile, mean over frames."""
  low, high = np.percentile(video.luma, (5, 95), axis=(1, 2))
  return float((high - low).mean())


def sharpness(video: Frames) -> float:
  """Mean luma gradient, per pixel."""
  rows, columns = np.gradient(video.luma, axis=(1, 2))
  return float(np.hypot(rows, columns).mean())


def detail(video: Frames) -> float:
  """Share of the frame that is not flat: gradient above 0.02."""
  rows, columns = np.gradient(video.luma, axis=(1, 2))
  return float((np.hypot(rows, columns) > 0.02).mean())


def colourfulness(video: Frames) -> float:
  """M3 of Hasler and Suesstrunk (2003), divided by 255."""
  red, green, blue = np.moveaxis(video.rgb, -1, 0)
  first, second = red - green, (red + green) / 2 - blue
  spread = np.hypot(first.std(axis=(1, 2)), second.std(axis=(1, 2)))
  mean = np.hypot(first.mean(axis=(1, 2)), second.mean(axis=(1, 2)))
  return float((spread + 0.3 * mean).mean())


def noise(video: Frames) -> float:
  """Standard deviation of noise by Immerkaer's mask (1996), in luma."""
  x = video.luma
  down = x[:, :-2] - 2 * x[:, 1:-1] + x[:, 2:]
  mask = down[..., :-2] - 2 * down[..., 1:-1] + down[..., 2:]
  return float(np.sqrt(np.pi / 2) * np.abs(mask).mean() / 6)


def flicker(video: Frames) -> float:
  """Mean change of a frame's mean luma from frame to frame."""
  return float(np.abs(np.diff(video.luma.mean(axis=(1, 2)))).mean())


def motion(video: Frames) -> float:
  """Mean change of a pixel's luma from frame to frame."""
  return float(np.abs(video.steps).mean())


def moving_share(video: Frames) -> float:
  """Share of pixels whose luma changes by more than 0.05 over the video."""
  return float((np.ptp(video.luma, axis=0) > 0.05).mean())


def jerk(video: Frames) -> float:
  """Change of the change, relative to the change: 0 steady, above 1.4 trembling."""
  if len(video.steps) < 2:
    return 0.0
  change = np.abs(np.diff(video.steps, axis=0)).mean()
  return float(change / max(np.abs(video.steps).mean(), 1e-6))


def jump(video: Frames) -> float:
  """Largest step between two frames, relative to the mean step."""
  sizes = np.abs(video.steps).mean(axis=(1, 2))
  return float(sizes.max() / max(sizes.mean(), 1e-6))


def steadiness(video: Frames) -> float:
  """Mean correlation of neighbouring frames."""
  pairs = zip(video.luma[:-1], video.luma[1:], strict=True)
  return float(np.mean([_correlation(one, two) for one, two in pairs]))


def persistence(video: Frames) -> float:
  """Correlation of the first frame and the last."""
  return _correlation(video.luma[0], video.luma[-1])


def centring(video: Frames) -> float:
  """Contrast of the frame's middle ninth, relative to the whole frame's."""
  height, width = video.luma.shape[1:]
  rows = slice(height // 3, -(height // 3) or None)
  columns = slice(width // 3, -(width // 3) or None)
  middle = video.luma[:, rows, columns].std(axis=(1, 2))
  whole = video.luma.std(axis=(1, 2))
  return float((middle / np.maximum(whole, 1e-6)).mean())


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
  one, two = one - one.mean(), two - two.mean()
  size = np.sqrt((one * one).sum() * (two * two).sum())
  return float((one * two).sum() / size) if size > 1e-6 else 1.0


MEASURES: dict[str, Callable[[Frames], float]] = {
  measure.__name__: measure
  for measure in (
    exposure,
    clipping,
    contrast,
    sharpness,
    detail,
    colourfulness,
    noise,
    flicker,
    motion,
    moving_share,
    jerk,
    jump,
    steadiness,
    persistence,
    centring,
  )
}
