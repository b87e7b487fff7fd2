"""Candidates for the DPO half: K prompts a query from the SFT model (paper, 3.3).

    python launch/sample.py --workdir=runs/mine

writes runs/mine/sample/candidates.jsonl from runs/mine/curate/dpo.jsonl and
runs/mine/train_sft/model. Killed and run again, it makes only what is missing.
"""

import ml_collections

from configs import mesh


def get_config() -> ml_collections.ConfigDict:
  """The paper's and the release's settings."""
  config = ml_collections.ConfigDict()
  config.queries = ""  # in any form (docs/data.md); "" is <workdir>/curate/dpo.jsonl
  config.model = ""  # directory, hub id or "smollm2-135m-instruct"; "" is the SFT model
  config.instruction = ""  # template file; "" is the model's own, or the embedded one

  config.num_candidates = 4  # paper, 3.3: K = 4
  config.temperature = 0.9  # paper, appendix 9
  config.top_p = 0.9  # release; the paper does not say
  config.top_k = 0  # neither names it: off
  config.max_new_tokens = 2048  # release
  config.max_prompt_tokens = 1024  # ours: longer queries are set aside
  config.seed = 0  # of the random keys of all candidates

  config.precision = "float32"  # "bfloat16" on an accelerator
  config.slots = 32  # candidates side by side, ours: see docs/performance.md
  config.queries_per_part = 64  # ours: finished queries in a published part
  # "i/n": make every n-th query from the i-th on, where n hosts share a workdir without
  # being one distributed run.
  config.share = "0/1"
  config.mesh = mesh.get_config()
  return config
