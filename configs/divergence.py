"""KL between a trained model and its SFT model, on sampled prompts (docs/beyond.md).

    python launch/divergence.py --workdir=runs/mine \
      --config.candidates=runs/mine/rounds/1/heldout/sample/candidates.jsonl
"""

import ml_collections

from configs import mesh


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.candidates = ""  # prompts of the model; "" is sample/candidates.jsonl
  config.model = ""  # "" is train_dpo/model of the workdir
  config.reference = ""  # "" is train_sft/model of the workdir
  config.reasoning = False  # as in training
  config.max_tokens = 2048  # query and prompt; longer rows are left out
  config.precision = "float32"  # of products
  config.batch_size = 64  # queries that are packed together
  config.micro_tokens = 4096  # tokens of a device's micro-batch; sets peak memory
  config.remat = "none"  # nothing is differentiated
  config.check_packing = True  # as in configs/training.py
  config.mesh = mesh.get_config()
  config.mesh.fsdp = -1
  config.hang_minutes = 10.0  # as in configs/training.py
  return config
