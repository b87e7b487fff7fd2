"""The trained optimizer as a Hugging Face directory.

    python launch/export.py --config=configs/export.py --workdir=runs/mine

writes runs/mine/vpo from runs/mine/train_dpo/model; with --config.adapter
runs/mine/vpo_adapter from runs/mine/train_dpo/adapter.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.model = ""  # directory; "" is <workdir>/train_dpo/model
  config.adapter = False  # LoRA's adapter alone, beside its base; else a whole model
  config.base = ""  # adapter: its base, as users name it; "" is the path it began from
  config.instruction = ""  # template file; "" is the model's own, or the embedded one
  config.dtype = "float32"  # of the tensors; "bfloat16" halves the directory
  config.temperature = 0.7  # release, inference
  config.top_p = 1.0  # release, inference
  config.max_new_tokens = 512  # ours; the paper's prompts have about 130
  return config
