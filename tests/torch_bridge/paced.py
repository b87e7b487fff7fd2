"""A renderer that sleeps for a second per video; by name, `paced`."""

import time

import numpy as np

from torch_bridge.renderers import base

SECOND = 1.0


class _Paced:
  def __init__(self):
    self.made_by = {"renderer": "paced"}

  def render(self, requests, heartbeat):
    began = time.monotonic()
    clips = [base.Clip(_frames(request)) for request in requests]
    heartbeat()
    time.sleep(max(0.0, began + SECOND * len(requests) - time.monotonic()))
    return clips


def _frames(request):
  size = [request.settings[name] for name in ("height", "width")]
  draw = np.random.default_rng([request.seed, *request.prompt.encode()])
  scene = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
  rows, columns = (np.arange(n) * 8 // n for n in size)
  scene = scene[rows][:, columns]
  return np.stack([np.roll(scene, i, 1) for i in range(request.settings["num_frames"])])


def make(spec):
  return _Paced()
