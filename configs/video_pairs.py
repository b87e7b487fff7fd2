"""Video-level preference pairs: render, score, compare (paper, section 3.3).

    python launch/video_pairs.py --config=configs/video_pairs.py --workdir=runs/mine

The default renderer and scorer are the embedded stand-ins; configs/bridge.py says how
to name the paper's. 10k queries x 4 videos of CogVideoX are 500 to 1,000 H100 hours.
"""

import ml_collections

from configs import bridge


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.candidates = ""  # "" is sample/candidates.jsonl of the workdir
  config.judged = ""  # "" is text_pairs/judged.jsonl
  config.videos_per_prompt = 1  # release; with more, their mean reward counts

  config.rules = rules = ml_collections.ConfigDict()
  # Render only prompts that passed the text-level check: paper; the release does not.
  rules.text_check = True
  # The chosen video answers every question at least as well: release; not in the paper.
  rules.dominance = True
  rules.margin = 0.5  # R(chosen) - R(rejected) is above this: paper, release
  # "every" two prompts of a query (release), or "adjacent" in reward order (paper).
  rules.pairing = "every"
  # Which pairs come first: "best_margin" (ours) or "first" in file order (release).
  rules.order = "best_margin"
  rules.one_per_query = True  # release; False keeps every pair
  bridge.add(config)
  return config
