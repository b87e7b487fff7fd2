"""The preference data set: D_dpo = D_text ∪ D_video (paper, section 3.3).

python launch/merge_pairs.py --config=configs/merge_pairs.py --workdir=runs/mine
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  # Pairs of a stage, or a JSON list of preference rows, such as the released one.
  config.text = ""  # "" is text_pairs/pairs.jsonl of the workdir
  config.video = ""  # "" is video_pairs/pairs.jsonl
  # "union": without duplicates, text first (paper); "one_per_query": a query seen twice
  # keeps its text pair (release).
  config.rule = "union"
  # Share of text pairs, the other kind's surplus dropped: 0.0 is without text-level
  # feedback (paper, table 1), 1.0 without videos; None keeps all (paper).
  config.text_share = ml_collections.config_dict.placeholder(float)
  config.heldout = 0.05  # ours: share of the queries that training never sees
  config.seed = 0  # of the held-out split
  config.instruction = ""  # your own template; "" is vpo_jax/templates/instruction.txt
  return config
