"""Supervised fine-tuning as in the paper: section 3.2, equation 1, appendix 9.

    python launch/train_sft.py --config=configs/sft.py --workdir=runs/vpo \
      --config.model=meta-llama/Meta-Llama-3-8B-Instruct --config.mesh.fsdp=8

Llama-3-8B needs 8 devices of 80 GB; for one CPU see configs/quickstart.py.
"""

import ml_collections

from configs import training


def get_config() -> ml_collections.ConfigDict:
  config = training.get_config()
  config.model = "meta-llama/Meta-Llama-3-8B-Instruct"  # paper, appendix 9
  config.train = ""  # rows; "" is build_sft/train.json of the workdir
  # Rows; "" is build_sft/heldout.json of the workdir. Without rows, no evaluation.
  config.heldout = ""
  # A batch's loss is the mean over "tokens", as in LLaMA-Factory (the release's
  # trainer) and TRL, or over "examples", each the mean over its own tokens (the
  # paper's equation 1, taken literally).
  config.loss_average = "tokens"
  config.batch_size = 64  # examples per step, over all devices; paper, appendix 9
  config.epochs = 5  # paper, appendix 9
  config.max_tokens = 2048  # prompt and response; release, cutoff_len
  config.optimizer.peak_lr = 2e-6  # paper, appendix 9
  config.optimizer.schedule = "constant_with_warmup"  # release; the paper does not say
  config.optimizer.warmup_ratio = 0.1  # paper, appendix 9
  config.mesh.fsdp = -1  # paper: ZeRO-3 over all devices
  return config
