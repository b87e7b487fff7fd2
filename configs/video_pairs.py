"""Video-level preference pairs: of two prompts, the higher reward is preferred (3.3).

    python launch/video_pairs.py --config=configs/video_pairs.py --workdir=runs/mine

If the rules change, the pairs are chosen again from the same scores, in about a second.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.scores = ""  # "" is score_videos/scores.jsonl of the workdir

  config.rules = rules = ml_collections.ConfigDict()
  # The chosen video is no worse on any of the "questions" (release; not in the paper),
  # or of the "dimensions", the rewards of the groups of questions (VisionReward's own
  # training, arXiv:2412.21059); "none" compares the rewards only (paper).
  rules.dominance = "questions"
  rules.margin = 0.5  # R(chosen) - R(rejected) must be above this: paper, release
  # "every" two prompts of a query (release), or "adjacent" in reward order (paper).
  rules.pairing = "every"
  # Which pairs come first: "best_margin" (ours) or "first" in file order (release).
  rules.order = "best_margin"
  rules.one_per_query = True  # release; False keeps every pair
  return config
