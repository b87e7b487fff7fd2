"""SFT data by few-shot generation, critique and refinement (paper, section 3.2).

  python launch/build_sft.py --config=configs/build_sft.py --workdir=runs/mine

With the paper's 10k queries expect about 25k calls to GPT-4o.
"""

import ml_collections

from configs import teacher


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.queries = ""  # file of queries; "" is curate/sft.jsonl of the workdir
  config.shots = 3  # paper, figure 7
  config.heldout = 0.05  # ours: part of the examples that training never sees
  config.seed = 0  # of the demonstrations and of the held-out split
  config.critique_rules = 6  # 6: release, with Pika flags; 5: paper, figure 8
  config.second_critique = False  # ours: a refinement has to pass a critique too
  # Your own template files in place of those in vpo_jax/templates.
  config.few_shot = ""
  config.demonstrations = ""
  config.critique = ""
  config.refine = ""
  config.instruction = ""
  config.teacher = teacher.get_config()
  return config
