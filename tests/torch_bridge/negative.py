"""A scorer that says no to everything, a tenth of a second a video; `negative`."""

import time

from torch_bridge.scorers import base


class _Negative:
  name, revision = "negative", "1"

  def __init__(self, spec):
    self.questions = base.load_questions(spec)

  def score(self, frames, fps, text, beat):
    beat()
    time.sleep(0.1)
    return base.Verdict([0.2] * len(self.questions.texts))


make = _Negative
