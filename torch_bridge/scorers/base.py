"""What a scorer is."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from torch_bridge import questions

if TYPE_CHECKING:
  import numpy as np


# The questions that ship with the project.
CHECKLIST = pathlib.Path(__file__).with_name("checklist.json")


def asked(spec: dict[str, Any]) -> questions.Questions:
  """The questions that a job names; the project's own where it names none.

  Raises:
    ValueError: a file is missing or malformed; names it.
  """
  return questions.load(
    spec.get("questions") or str(CHECKLIST), spec.get("weights", "")
  )


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What a scorer says of one video.

  Attributes:
    p_yes: the probability of yes for each question.
    yes: the answers; where they are None, a probability above one half is a yes.
    scalars: rewards of scorers that ask no questions, by dimension.
  """

  p_yes: list[float]
  yes: list[bool] | None = None
  scalars: dict[str, float] = dataclasses.field(default_factory=dict)

  def answers(self) -> list[bool]:
    return [p > 0.5 for p in self.p_yes] if self.yes is None else self.yes


class Scorer(Protocol):
  """Judges videos; loaded once a worker."""

  name: str
  revision: str  # of its model or code
  asked: questions.Questions

  def score(
    self,
    frames_THWC: np.ndarray,
    fps: float,
    text: str,
    beat: Callable[[], None],
  ) -> Verdict:
    """Answers every question about one video.

    Args:
      frames_THWC: uint8 [T, H, W, 3].
      text: what fills `[[prompt]]` in a question.
      beat: to be called while the work gets on; silence is taken for a hang.
    """
    ...
