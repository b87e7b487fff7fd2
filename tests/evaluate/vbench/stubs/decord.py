"""The part of decord that VBench uses, by PyAV."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import av
import numpy as np

cpu = None
bridge = SimpleNamespace(set_bridge=lambda name: None)


class VideoReader:
  def __init__(self, path: str, num_threads: int = 0):
    with av.open(path) as file:
      (stream,) = file.streams.video
      self._rate = float(stream.average_rate or 0)
      self._frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]

  def __len__(self) -> int:
    return len(self._frames)

  def get_avg_fps(self) -> float:
    return self._rate

  def get_batch(self, indices: Iterable[int]) -> Any:
    frames = np.stack([self._frames[index] for index in indices])
    return SimpleNamespace(asnumpy=lambda: frames)
