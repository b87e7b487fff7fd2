"""Training on all candidates of each query, by their rewards (docs/beyond.md).

    python launch/train_groups.py --config=configs/train_groups.py --workdir=runs/vpo

Starts from the workdir's SFT model, which wrote the candidates and is the reference.
"""

import ml_collections

from configs import training


def get_config() -> ml_collections.ConfigDict:
  config = training.get_config()
  config.model = ""  # directory or hub id; "" is train_sft/model of the workdir
  config.train = ""  # groups; "" is groups/train.jsonl of the workdir
  # Groups; "" is groups/heldout.jsonl of the workdir. Without groups, no evaluation.
  config.heldout = ""
  # "plackett_luce": DPO on the ranking of a group; "kto": each response is desirable or
  # not; "grpo": the clipped policy gradient; "dr_grpo": the same without a bias for
  # long or short responses.
  config.loss = "plackett_luce"
  config.beta = 0.1  # of plackett_luce and kto; as in configs/dpo.py
  # Of kto: desirable is a reward of at least this number, or of at least the mean of
  # the query's candidates.
  config.threshold = "mean"
  config.desirable_weight = 1.0  # of kto; lambda_D of arXiv:2402.01306
  config.undesirable_weight = 1.0  # of kto; lambda_U
  config.clip_low = 0.2  # of grpo and dr_grpo; arXiv:2402.03300
  config.clip_high = 0.2  # the same; 0.28 in arXiv:2503.14476
  config.kl_weight = 0.0  # of grpo and dr_grpo; 0.04 in arXiv:2402.03300, TRL has 0
  config.length = 256  # dr_grpo divides by it; about the longest response in tokens
  # How the judge's verdict on the text counts (vpo_jax/train/group_rewards.py):
  # "constraint": a flawed response never outranks one that passed; "term": its reward
  # is `text_weight` less; "none".
  config.text_feedback = "constraint"
  config.text_weight = 1.0  # in units of the reward
  config.refined = True  # with the constraint: the refinements are responses too
  config.batch_size = 16  # groups per step, over all devices
  config.epochs = 1
  config.max_tokens = 2048  # prompt and longest response
  config.optimizer.peak_lr = 5e-7  # as in configs/dpo.py
  config.optimizer.schedule = "linear"
  config.optimizer.warmup_ratio = 0.1
  config.mesh.fsdp = -1
  return config
