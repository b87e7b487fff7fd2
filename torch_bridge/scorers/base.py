"""The interface of a scorer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch_bridge import questions as questions_lib

if TYPE_CHECKING:
  import numpy as np


def load_questions(spec: dict[str, Any]) -> questions_lib.Questions:
  """The questions of the file that a scorer's spec names.

  Raises:
    ValueError: no file is named, or a file is missing or malformed.
  """
  if not spec.get("questions"):
    raise ValueError("name the scorer's question file with --config.scorer.questions")
  return questions_lib.load(spec["questions"], spec.get("weights", ""))


@dataclasses.dataclass(frozen=True)
class Verdict:
  """A scorer's result for one video.

  Attributes:
    p_yes: the probability of yes for each question.
    yes: the answers; None means yes where the probability is above one half.
    scalars: named rewards, for scorers that ask no questions.
  """

  p_yes: list[float]
  yes: list[bool] | None = None
  scalars: dict[str, float] = dataclasses.field(default_factory=dict)

  def answers(self) -> list[bool]:
    return [p > 0.5 for p in self.p_yes] if self.yes is None else self.yes


@runtime_checkable
class Scorer(Protocol):
  """Judges videos; loaded once per worker.

  Attributes:
    revision: of the model or the code; stored with every answer.
    questions: the questions it answers; `questions.NONE` for named rewards.
  """

  name: str
  revision: str
  questions: questions_lib.Questions

  def score(
    self,
    frames_THWC: np.ndarray,
    fps: float,
    text: str,
    heartbeat: Callable[[], None],
  ) -> Verdict:
    """Answers every question about one video.

    Args:
      frames_THWC: uint8 [T, H, W, 3].
      text: replaces `[[prompt]]` in a question.
      heartbeat: call it as work progresses; a worker without heartbeats is killed.
    """
    ...
