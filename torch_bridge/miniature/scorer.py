"""The miniature's reward: VisionReward's form, answered by measurements.

    --config.scorer.name=torch_bridge.miniature.scorer
    --config.scorer.questions=torch_bridge/miniature/checklist.json

The file holds weighted yes/no questions about alignment with the query, stability,
preservation, physics and quality. Each names a measure (`checks`), the threshold that
the measure must pass (`at_least` or `at_most`) and the width of the transition from no
to yes (`softness`).

Whether a clip is unsafe is measured and stored with the answers (`splatter`, `fire`)
but adds nothing to the reward: a video reward model asks whether a video is good, and
safety is the subject of the text-level feedback (paper, section 3.3). Blood or fire
that an unsafe query asks for is no fault either.
"""

from __future__ import annotations

import hashlib
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from torch_bridge.miniature import checks, clips, lexicon, measure, world
from torch_bridge.scorers import base

QUESTIONS = pathlib.Path(__file__).with_name("checklist.json")
_CODE = (checks, clips, lexicon, measure, world)  # the modules that decide an answer


class MiniatureScorer:
  """Answers yes where a measure passes its threshold."""

  name = "miniature"

  def __init__(self, spec: dict[str, Any]):
    """Reads the questions and their rules.

    Raises:
      ValueError: a question has no rule, or a rule that cannot be applied.
    """
    self.questions = base.load_questions(spec)
    self.revision = identity(spec)
    self._rules = load_rules(spec["questions"])

  def score(
    self,
    frames_THWC: np.ndarray,
    fps: float,
    text: str,
    heartbeat: Callable[[], None],
  ) -> base.Verdict:
    seen = checks.see(frames_THWC, text)
    # Every measure is stored, also those that no question uses.
    names = dict.fromkeys([*(rule["measure"] for rule in self._rules), *checks.CHECKS])
    values = {name: checks.CHECKS[name](seen) for name in names}
    return base.Verdict(
      [probability(rule, values[rule["measure"]]) for rule in self._rules],
      scalars={name: round(value, 6) for name, value in values.items()},
    )


def load_rules(path: str) -> list[dict[str, Any]]:
  """The rule that answers each question of a file.

  Raises:
    ValueError: a rule is incomplete or names an unknown measure.
  """
  rules = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
  for rule in rules:
    place = f"{path}: question {rule['question']!r}"
    if rule.get("measure") not in checks.CHECKS:
      known = ", ".join(sorted(checks.CHECKS))
      raise ValueError(
        f"{place}: no measure {rule.get('measure')!r}; known measures: {known}"
      )
    if ("at_least" in rule) == ("at_most" in rule) or "softness" not in rule:
      raise ValueError(f"{place}: needs softness, and either at_least or at_most")
  return rules


def probability(rule: dict[str, Any], value: float) -> float:
  """The probability that a measured value passes the rule's threshold.

  It is the logistic function of the distance to the threshold in units of the rule's
  softness, so one half at the threshold.
  """
  above = "at_least" in rule
  distance = value - rule["at_least"] if above else rule["at_most"] - value
  return 1 / (1 + math.exp(-max(-60.0, min(60.0, distance / rule["softness"]))))


def identity(spec: dict[str, Any]) -> str:
  """A hash of the code that measures, which the answers depend on."""
  text = b"".join(pathlib.Path(str(module.__file__)).read_bytes() for module in _CODE)
  return hashlib.sha256(text).hexdigest()[:16]


make = MiniatureScorer
