"""Pairs of videos of one prompt, for Diffusion DPO (paper, section 4.5, figure 5).

    python launch/diffusion_pairs.py --config=configs/diffusion_pairs.py \
      --workdir=runs/mine --config.renderer.preset=cogvideox-2b ...

The paper gives no numbers for Diffusion DPO. Those below are of VisionReward
(arXiv:2412.21059, section 4 and appendix), by the same group, unless another source is
named.
"""

import ml_collections

from configs import score_videos, video_pairs


def get_config() -> ml_collections.ConfigDict:
  config = score_videos.get_config()  # candidates, judged, renderer, scorer, bridge
  config.videos_per_prompt = 4
  config.prompts_per_query = 1  # the first that passed the check; ours. 0 is all
  config.rules = video_pairs.get_config().rules
  # No dimension of the chosen video is worse: VisionReward's multi-objective
  # preference optimization. "none" is plain DPO on the reward.
  config.rules.dominance = "dimensions"
  config.rules.margin = 0.6  # with dominance; 0.8 without
  config.rules.pairing = "every"  # ours
  config.rules.one_per_query = True  # here: one pair of each prompt, the widest; ours
  config.heldout = 0.05  # share of the queries held out from training; ours
  config.seed = 0  # of the split
  return config
