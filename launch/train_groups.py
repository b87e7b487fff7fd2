"""Trains the policy on all candidates of each query, by their rewards.

    python launch/train_groups.py --config=configs/train_groups.py --workdir=runs/mine

Reads train_sft/model and groups/train.jsonl; writes <workdir>/train_groups/model.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.train.groups", "train_groups.py", distributed=True)
