"""The preference data set: D_dpo = D_text ∪ D_video (paper, section 3.3).

python launch/merge_pairs.py --config=configs/merge_pairs.py --workdir=runs/mine
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  # Pairs of a stage, or a JSON list of preference rows, such as the release's.
  config.text = ""  # "" is text_pairs/pairs.jsonl of the workdir
  config.video = ""  # "" is video_pairs/pairs.jsonl
  # "union": all pairs without duplicates, text pairs first (paper); "one_per_query":
  # the text pair of each query if it has one, else its video pair (release).
  config.rule = "union"
  # Share of text pairs; surplus pairs of the other kind are dropped. 0.0 is the paper's
  # ablation without text-level feedback (table 1); None keeps all pairs (paper).
  config.text_share = ml_collections.config_dict.placeholder(float)
  config.heldout = 0.05  # share of queries held out; ours. 0.0 trains on all: paper
  config.seed = 0  # of the held-out split
  # Template file; "" is the one that the candidates were sampled with
  # (sample/instruction.txt), or else vpo_jax/templates/instruction.txt.
  config.instruction = ""
  return config
