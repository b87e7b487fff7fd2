"""Supervised fine-tuning as in the paper: section 3.2, equation 1, appendix 9.

    python launch/train_sft.py --config=configs/sft.py --workdir=runs/vpo \
      --config.model=meta-llama/Meta-Llama-3-8B-Instruct --config.mesh.fsdp=8

Wants 8 devices of 80 GB for Llama-3-8B; on one CPU see configs/quickstart.py.
"""

import ml_collections

from vpo_jax.train import loop


def get_config() -> ml_collections.ConfigDict:
  config = loop.get_config()
  config.model = "meta-llama/Meta-Llama-3-8B-Instruct"  # paper, appendix 9
  config.train = ""  # "" is build_sft/train.json of the workdir
  config.heldout = ""  # "" is build_sft/heldout.json
  config.batch_size = 64  # paper, appendix 9
  config.epochs = 5  # paper, appendix 9
  config.max_tokens = 2048  # release, cutoff_len
  config.optimizer.peak_lr = 2e-6  # paper, appendix 9
  config.optimizer.schedule = "constant_with_warmup"  # release; the paper does not say
  config.optimizer.warmup_ratio = 0.1  # paper, appendix 9
  config.mesh.fsdp = -1  # paper: ZeRO-3 over all devices
  config.save_dtype = "float32"  # DPO goes on from here; export casts
  return config
