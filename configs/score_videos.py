"""Videos and rewards of the sampled candidates (paper, section 3.3).

    python launch/score_videos.py --config=configs/score_videos.py --workdir=runs/mine

configs/bridge.py says how to name the renderer and the scorer. 10k queries with 4
videos of CogVideoX each take 500 to 1,000 H100 hours.
"""

import ml_collections

from configs import bridge


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.candidates = ""  # "" is sample/candidates.jsonl of the workdir
  config.chosen = False  # only what launch/choose.py chose: choose/candidates.jsonl
  config.judged = ""  # "" is text_pairs/judged.jsonl of the workdir
  # Render only prompts that passed the text-level check: paper; the release does not.
  config.text_check = True
  config.videos_per_prompt = 1  # release; with more, their mean reward counts
  bridge.add(config)
  return config
