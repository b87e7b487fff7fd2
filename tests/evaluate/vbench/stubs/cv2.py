"""The part of OpenCV that VBench's temporal_flickering uses, by PyAV."""

from typing import Any

import av
import numpy as np
from absent import __getattr__  # noqa: F401


class VideoCapture:
  def __init__(self, path: str):
    with av.open(path) as file:
      self._frames = [f.to_ndarray(format="bgr24") for f in file.decode(video=0)]
    self._opened = True

  def isOpened(self) -> bool:
    return self._opened

  def read(self) -> tuple[bool, Any]:
    if not self._frames:
      return False, None
    return True, self._frames.pop(0)

  def release(self) -> None:
    self._opened = False


def absdiff(one: Any, two: Any) -> Any:
  return np.abs(one - two)
