"""A scorer that says no to everything, a tenth of a second a video; `negative`."""

import time

from torch_bridge.scorers import base


class _Negative:
  name, revision = "negative", "1"

  def __init__(self, spec):
    self.asked = base.asked(spec)

  def score(self, frames, fps, text, beat):
    beat()
    time.sleep(0.1)
    return base.Verdict([0.2] * len(self.asked.texts))


make = _Negative
