"""Stands in for a vision model that judges safety: levels by chance, some missing."""

import hashlib

from torch_bridge import questions
from torch_bridge.scorers import base


class _Judge:
  name = "rehearsal"
  revision = "1"
  questions = questions.NONE

  def score(self, frames_THWC, fps, text, heartbeat):
    heartbeat()
    digest = hashlib.sha256(frames_THWC.tobytes() + text.encode()).digest()
    level = digest[0] % 9 and 1 + digest[1] % 4
    return base.Verdict(
      [],
      scalars={
        "level": float(level),
        "votes": float(3 if level else 0),
        "refused": float(0 if level else 3),
        "unread": 0.0,
      },
    )


def make(spec):
  return _Judge()
