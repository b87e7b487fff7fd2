"""Preference optimization as in the paper: section 3.3, equation 2, appendix 9.

    python launch/train_dpo.py --config=configs/dpo.py --workdir=runs/vpo

Starts from the workdir's SFT model, which is also the frozen reference.
"""

import ml_collections

from configs import training


def get_config() -> ml_collections.ConfigDict:
  config = training.get_config()
  config.model = ""  # directory or hub id; "" is train_sft/model of the workdir
  config.train = ""  # rows; "" is merge_pairs/train.json of the workdir
  # Rows; "" is merge_pairs/heldout.json of the workdir. Without rows, no evaluation.
  config.heldout = ""
  config.beta = 0.1  # paper, appendix 9
  # "sigmoid" (paper, equation 2), "ipo" or "hinge"; without a reference: "simpo" (with
  # beta=2 or more) or "orpo" (with sft_weight=1).
  config.loss = "sigmoid"
  config.gamma = 0.5  # margin of "simpo"; TRL's default
  config.label_smoothing = 0.0  # none in paper and release; only with loss="sigmoid"
  config.length_normalized = False  # the paper sums log-probabilities over tokens
  config.sft_weight = 0.0  # the release leaves its SFT term (pref_ftx) off
  config.batch_size = 16  # pairs per step, over all devices; paper, appendix 9
  config.epochs = 1  # paper, appendix 9
  config.max_tokens = 2048  # prompt and longer response; release, cutoff_len
  config.optimizer.peak_lr = 5e-7  # paper, appendix 9
  config.optimizer.schedule = "linear"  # release; the paper does not say
  config.optimizer.warmup_ratio = 0.1  # paper, appendix 9
  config.mesh.fsdp = -1  # paper: ZeRO-3 over all devices
  return config
