"""Text-level preference pairs: refined > flawed (paper, section 3.3).

    python launch/text_pairs.py --config=configs/text_pairs.py --workdir=runs/mine

It takes one call for each candidate, and one more for each that is flawed.
"""

import ml_collections

from configs import teacher


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.candidates = ""  # "" is sample/candidates.jsonl of the workdir
  config.pairs = "one"  # one per query: release; "all": paper
  # Drop refinements with a newline: release; the paper does not say. False joins lines.
  config.drop_newlines = False
  config.seed = 0  # of the choice of one pair per query
  # Video model whose text encoder must be able to read the prompts: a profile of
  # configs/targets, or a JSON file; ours. "" sets no limit.
  config.target = ""
  config.critique_rules = 6  # 6: release (sixth: Pika flags); 5: paper, figure 8
  config.second_critique = False  # a refinement must pass a critique too; ours
  config.critique = ""  # template file; "" is vpo_jax/templates/critique.txt
  config.refine = ""  # template file; "" is vpo_jax/templates/refine.txt
  config.teacher = teacher.get_config()
  return config
