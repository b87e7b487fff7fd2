"""The trained optimizer as a Hugging Face directory.

    python launch/export.py --config=configs/export.py --workdir=runs/mine

Writes runs/mine/vpo from runs/mine/train_dpo/model; with --config.adapter it writes
runs/mine/vpo_adapter from runs/mine/train_dpo/adapter.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  # The stage that trained the model: "train_dpo" or "train_groups".
  config.trained = "train_dpo"
  config.model = ""  # directory; "" is the model of that stage in the workdir
  config.adapter = False  # True: only the LoRA adapter; False: the merged model
  config.base = ""  # base model named in the adapter's config; "" is the local path
  config.instruction = ""  # template file; "" is the model's, or the embedded one
  config.dtype = "float32"  # of the tensors; "bfloat16" halves the directory
  config.temperature = 0.7  # release, inference
  config.top_p = 1.0  # release, inference
  config.max_new_tokens = 512  # ours; the paper's prompts have about 130
  # What users of the model must know: in the model card and on the server's page.
  config.note = ""
  return config
