"""A scorer for the tests that needs no model: is the contrast above a threshold?

By name, `contrast`, with the questions of contrast.json.
"""

import json
import pathlib

from torch_bridge.scorers import base

QUESTIONS = pathlib.Path(__file__).with_suffix(".json")
WIDTH = 0.02  # of the transition from no to yes


class _Contrast:
  name, revision = "contrast", "1"

  def __init__(self, spec):
    self.questions = base.load_questions(spec)
    rows = json.loads(pathlib.Path(spec["questions"]).read_text())
    self._thresholds = [row["above"] for row in rows]

  def score(self, frames, fps, text, heartbeat):
    heartbeat()
    contrast = float(frames.std()) / 255
    return base.Verdict(
      [
        min(1.0, max(0.0, 0.5 + (contrast - above) / WIDTH))
        for above in self._thresholds
      ],
      scalars={"contrast": contrast},
    )


make = _Contrast
