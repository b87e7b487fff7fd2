"""Text-level preference pairs: refined > flawed (paper, section 3.3).

python launch/text_pairs.py --config=configs/text_pairs.py --workdir=runs/mine
"""

import ml_collections

from configs import teacher


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.candidates = ""  # "" is sample/candidates.jsonl of the workdir
  config.pairs = "one"  # release: one a query, seeded; "all": paper
  config.seed = 0  # of the choice of one pair per query
  config.critique_rules = 6  # 6: release, with Pika flags; 5: paper, figure 8
  config.second_critique = False  # ours: a refinement has to pass a critique too
  # Your own template files in place of those in vpo_jax/templates.
  config.critique = ""
  config.refine = ""
  config.teacher = teacher.get_config()
  return config
