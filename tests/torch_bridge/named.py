"""A scorer of named rewards without questions, such as VideoAlign; `named`."""

from torch_bridge import questions
from torch_bridge.scorers import base


class _Named:
  name, revision = "named", "1"
  questions = questions.NONE

  def score(self, frames, fps, text, heartbeat):
    heartbeat()
    # The contrast, and the length of the text that replaces [[prompt]].
    return base.Verdict(
      [],
      scalars={
        "VQ": float(frames[:, ::8, ::8].std()) / 255,
        "MQ": 0.5,
        "TA": float(len(text)),
      },
    )


def make(spec):
  return _Named()
