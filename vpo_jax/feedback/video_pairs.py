"""Stage video_pairs: D_video, pairs of prompts by the rewards of their videos (3.3).

Of two prompts of a query, the one whose video has the higher reward is preferred if the
margin is large enough. The rules are in `pairing`.
"""

import statistics

import ml_collections

from vpo_jax import errors, records, stages
from vpo_jax.feedback import pairing


def run(work: stages.Work) -> stages.Counts:
  """Writes pairs.jsonl (`records.Pair`).

  Raises:
    UserError: a rule does not exist, or the scores cannot be read.
  """
  check(work.config.rules)
  scored = list(records.read(work.inputs["scores"], records.Scored))
  pairs = pairing.select(scored, work.config.rules)
  records.write(work.folder / "pairs.jsonl", pairs)
  margins = [pair.margin or 0.0 for pair in pairs]
  return {
    "videos": len(scored),
    "pairs": len(pairs),
    "margin_mean": round(statistics.fmean(margins), 4) if margins else None,
  }


def check(rules: ml_collections.ConfigDict) -> None:
  """Raises a UserError for a rule that does not exist."""
  choices = {
    "dominance": tuple(pairing.DOMINANCE),
    "pairing": ("every", "adjacent"),
    "order": ("best_margin", "first"),
  }
  for name, allowed in choices.items():
    if rules[name] not in allowed:
      raise errors.UserError(
        f"config.rules.{name}={rules[name]!r}: must be one of {', '.join(allowed)}"
      )


STAGE = stages.Stage(
  name="video_pairs",
  run=run,
  inputs=(stages.Input("scores", "score_videos/scores.jsonl"),),
  cheap=True,
)
