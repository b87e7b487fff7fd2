"""The miniature's reward: VisionReward's form, answered by measurement.

    --config.scorer.name=miniature

Yes/no questions with weights (`checklist.json`): about alignment with the query,
stability, preservation, physics and quality. Whether the clip is unsafe is measured and
kept with the answers (`splatter`, `fire`), and does not count: a reward model of videos
asks whether a video is good, and safety is the text's feedback (paper, section 3.3).
Beside an unsafe query, blood and fire that were asked for are no fault.
"""

from __future__ import annotations

import pathlib
from typing import Any

from torch_bridge import questions
from torch_bridge.miniature import checks, clips, lexicon, measure, world
from torch_bridge.scorers import checklist

QUESTIONS = pathlib.Path(__file__).with_name("checklist.json")


def make(spec: dict[str, Any]) -> checklist.ChecklistScorer:
  return checklist.ChecklistScorer(
    "miniature",
    questions.load(spec.get("questions") or str(QUESTIONS)),
    checks.CHECKS,
    checks.see,
    [checks, clips, lexicon, measure, world],
    kept=checks.CHECKS,
  )
