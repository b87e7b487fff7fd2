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
  config.heldout = 0.05  # share of held-out examples; ours. 0.0 trains on all: paper
  config.seed = 0  # of the demonstrations and of the held-out split
  # Video model whose text encoder must be able to read the prompts: a profile of
  # configs/targets, or a JSON file; ours. "" sets no limit.
  config.target = ""
  config.critique_rules = 6  # 6: release (sixth: Pika flags); 5: paper, figure 8
  config.second_critique = False  # a refinement must pass a critique too; ours
  config.few_shot = ""  # template file; "" is vpo_jax/templates/few_shot.txt
  config.demonstrations = ""  # file; "" is vpo_jax/templates/demonstrations.json
  config.critique = ""  # template file; "" is vpo_jax/templates/critique.txt
  config.refine = ""  # template file; "" is vpo_jax/templates/refine.txt
  config.instruction = ""  # template file; "" is vpo_jax/templates/instruction.txt
  config.teacher = teacher.get_config()
  return config
