"""A scorer of named rewards and no questions, as VideoAlign; by name, `named`."""

from torch_bridge import questions
from torch_bridge.scorers import base


class _Named:
  name, revision = "named", "1"
  questions = questions.NONE

  def score(self, frames, fps, text, beat):
    beat()
    # Contrast, and how long the text is that fills [[prompt]].
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
