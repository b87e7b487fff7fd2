"""A renderer without a model that fails as the first word of the prompt says.

Used by name, `scripted`, with this folder on the worker's PYTHONPATH. Every call is
recorded in the file $SCRIPTED_CALLS, so that tests can count videos.
"""

import os
import pathlib
import signal
import time

import numpy as np

from torch_bridge.renderers import base

made_by = {"renderer": "scripted"}


class _Scripted:
  def __init__(self, spec):
    self.made_by = made_by
    self._calls = pathlib.Path(os.environ["SCRIPTED_CALLS"])
    self._record("load")
    if device := os.environ.get("CUDA_VISIBLE_DEVICES"):
      self._record(f"device {device}")
    if spec["model"] == "broken":
      raise base.ModelError("broken: cannot be loaded as a pipeline")

  def render(self, requests, heartbeat):
    heartbeat()
    for request in requests:
      self._record(request.prompt)
    if any("big" in r.prompt for r in requests) and len(requests) > 1:
      raise base.OutOfMemory("the batch is too big")
    return [base.Clip(self._frames(request)) for request in requests]

  def _frames(self, request):
    word, count = request.prompt.split()[0], request.settings["num_frames"]
    once = self._calls.with_name(f"once-{request.id}")
    first = not once.exists()
    once.touch()
    if word == "kill" or (word == "kill-once" and first):
      os.kill(os.getpid(), signal.SIGKILL)
    if word == "hang-once" and first:
      time.sleep(600)
    if word == "huge":
      raise base.OutOfMemory("does not fit at all")
    if word == "raise" or (word == "raise-once" and first):
      raise RuntimeError("scripted failure")
    if word == "slow":
      time.sleep(0.2)
    random = np.random.default_rng([request.seed, *request.prompt.encode()])
    scene = 0.5 + random.uniform(0.05, 1) * (random.random((8, 8, 3)) - 0.5)
    scene = np.kron(scene, np.ones((4, 4, 1)))
    frames = np.stack([np.roll(scene, step, axis=1) for step in range(count)])
    if word == "black":
      return frames * 0
    if word == "constant":
      return frames * 0 + 0.5
    if word == "nan":
      frames[1, 1, 1] = np.nan
    return frames[:-1] if word == "short" else frames

  def _record(self, line):
    with self._calls.open("a") as file:
      file.write(line + "\n")


def make(spec):
  return _Scripted(spec)
