"""All candidates of a query with their verdicts and rewards, to train on groups.

python launch/groups.py --config=configs/groups.py --workdir=runs/mine
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.candidates = ""  # "" is sample/candidates.jsonl of the workdir
  config.judged = ""  # verdicts; "" is text_pairs/judged.jsonl, if it exists
  config.scores = ""  # rewards; "" is score_videos/scores.jsonl, if it exists
  config.heldout = 0.05  # share of queries held out
  config.seed = 0  # of the held-out split
  # Template file; "" is the one that the candidates were sampled with
  # (sample/instruction.txt), or else vpo_jax/templates/instruction.txt.
  config.instruction = ""
  return config
