"""The checklist that ships with the project: questions answered by measurements.

It needs no model. It judges craft (exposure, sharpness, motion, stability, ...) and
knows nothing of what a video shows, so it stands in for VisionReward only where the
road matters and not the reward.
"""

from __future__ import annotations

import hashlib
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from torch_bridge import questions
from torch_bridge.scorers import base, measures


class ChecklistScorer:
  """Yes where a measurement passes its threshold."""

  name = "checklist"

  def __init__(self, asked: questions.Questions):
    """Takes questions whose rules name a measure.

    Raises:
      ValueError: a question has no rule, or one that cannot be applied.
    """
    if not asked.rules:
      raise ValueError(
        "the checklist scorer answers by measurements: every question needs a measure"
      )
    for rule in asked.rules:
      if rule["measure"] not in measures.MEASURES:
        known = ", ".join(sorted(measures.MEASURES))
        raise ValueError(f"no measure {rule['measure']!r}; there are {known}")
      if ("at_least" in rule) == ("at_most" in rule):
        raise ValueError(f"{rule['question']!r} needs either at_least or at_most")
    self.asked = asked
    code = pathlib.Path(measures.__file__).read_bytes()
    self.revision = hashlib.sha256(code).hexdigest()[:16]

  def score(
    self,
    frames_THWC: np.ndarray,
    fps: float,
    text: str,
    beat: Callable[[], None],
  ) -> base.Verdict:
    video = measures.Frames(frames_THWC)
    names = dict.fromkeys(rule["measure"] for rule in self.asked.rules)
    values = {name: measures.MEASURES[name](video) for name in names}
    return base.Verdict(
      [probability(rule, values[rule["measure"]]) for rule in self.asked.rules],
      scalars={name: round(value, 6) for name, value in values.items()},
    )


def probability(rule: dict[str, Any], value: float) -> float:
  """How far a measurement is on the right side of its threshold, 0 to 1.

  The logistic of the distance in units of the rule's softness: one half at the
  threshold itself.
  """
  above = "at_least" in rule
  distance = value - rule["at_least"] if above else rule["at_most"] - value
  return 1 / (1 + math.exp(-max(-60.0, min(60.0, distance / rule["softness"]))))


def make(spec: dict[str, Any]) -> ChecklistScorer:
  return ChecklistScorer(base.asked(spec))
