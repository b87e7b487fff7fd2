"""The checklist that ships with the project: questions answered by measurements.

It needs no model. It judges craft (exposure, sharpness, motion, stability, ...) and
knows nothing of what a video shows, so it stands in for VisionReward only where the
road matters and not the reward.
"""

from __future__ import annotations

import hashlib
import math
import pathlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from torch_bridge import questions
from torch_bridge.scorers import base, measures


class ChecklistScorer:
  """Yes where a measurement passes its threshold."""

  def __init__(
    self,
    name: str,
    asked: questions.Questions,
    table: Mapping[str, Callable[[Any], float]],
    see: Callable[[np.ndarray, str], Any],
    code: Sequence[types.ModuleType],
    kept: Iterable[str] = (),
  ):
    """Takes questions whose rules name a measure.

    Args:
      table: the measures by name.
      see: makes of frames [T, H, W, 3] and the text what measures look at.
      code: the modules that answer; their hash is the scorer's revision.
      kept: measures that are kept with the answers though no question asks for them.

    Raises:
      ValueError: a question has no rule, or one that cannot be applied.
    """
    if not asked.rules:
      raise ValueError(
        f"the {name} scorer answers by measurements: every question needs a measure"
      )
    for rule in asked.rules:
      if rule["measure"] not in table:
        known = ", ".join(sorted(table))
        raise ValueError(f"no measure {rule['measure']!r}; there are {known}")
      if ("at_least" in rule) == ("at_most" in rule):
        raise ValueError(f"{rule['question']!r} needs either at_least or at_most")
    self.name = name
    self.asked = asked
    names = dict.fromkeys([*(rule["measure"] for rule in asked.rules), *kept])
    self._measures = {name: table[name] for name in names}
    self._see = see
    files = [pathlib.Path(str(module.__file__)) for module in code]
    text = b"".join(file.read_bytes() for file in files)
    self.revision = hashlib.sha256(text).hexdigest()[:16]

  def score(
    self,
    frames_THWC: np.ndarray,
    fps: float,
    text: str,
    beat: Callable[[], None],
  ) -> base.Verdict:
    seen = self._see(frames_THWC, text)
    values = {name: measure(seen) for name, measure in self._measures.items()}
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
  return ChecklistScorer(
    "checklist",
    base.asked(spec),
    measures.MEASURES,
    lambda frames_THWC, _: measures.Frames(frames_THWC),
    [measures],
  )
