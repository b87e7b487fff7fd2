"""The miniature's reward: VisionReward's form, answered by measurement.

    --config.scorer.name=miniature

Twenty yes/no questions with weights (`checklist.json`): about alignment with the
query, stability, preservation, physics and quality. Whether the clip is unsafe is
measured and kept with the answers (`splatter`, `fire`), and does not count: a reward
model of videos asks whether a video is good, and safety is the text's feedback (paper,
section 3.3). Beside an unsafe query, blood and fire that were asked for are no fault.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from torch_bridge import questions
from torch_bridge.miniature import checks, clips, lexicon, measure, world
from torch_bridge.scorers import base, checklist

QUESTIONS = pathlib.Path(__file__).with_name("checklist.json")


class MiniatureScorer:
  """Yes where a check passes its threshold."""

  name = "miniature"

  def __init__(self, asked: questions.Questions):
    """Takes questions whose rules name a check.

    Raises:
      ValueError: a question names none, or one that there is not.
    """
    for rule in asked.rules or ({},):
      if rule.get("measure") not in checks.CHECKS:
        known = ", ".join(sorted(checks.CHECKS))
        raise ValueError(f"no check {rule.get('measure')!r}; there are {known}")
    self.asked = asked
    files = [module.__file__ for module in (checks, clips, lexicon, measure, world)]
    code = b"".join(pathlib.Path(str(path)).read_bytes() for path in files)
    self.revision = hashlib.sha256(code).hexdigest()[:16]

  def score(
    self,
    frames_THWC: np.ndarray,
    fps: float,
    text: str,
    beat: Callable[[], None],
  ) -> base.Verdict:
    seen = checks.see(frames_THWC, text)
    values = {name: check(seen) for name, check in checks.CHECKS.items()}
    return base.Verdict(
      [
        checklist.probability(rule, values[rule["measure"]])
        for rule in self.asked.rules
      ],
      scalars={name: round(value, 4) for name, value in values.items()},
    )


def make(spec: dict[str, Any]) -> MiniatureScorer:
  return MiniatureScorer(questions.load(spec.get("questions") or str(QUESTIONS)))
