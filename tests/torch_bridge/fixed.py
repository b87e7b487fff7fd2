"""A scorer with two questions of its own, whatever the question file; `fixed`."""

from torch_bridge import questions
from torch_bridge.scorers import base


class _Fixed:
  name, revision, questions = "fixed", "1", questions.NONE

  def score(self, frames, fps, text, heartbeat):
    heartbeat()
    return base.Verdict([0.9, 0.1])


def make(spec):
  return _Fixed()
