"""Optimizes the SFT model on preference pairs (paper, section 3.3).

    python launch/train_dpo.py --config=configs/dpo.py --workdir=runs/mine

Reads merge_pairs/train.json and heldout.json and train_sft/model; writes reference
log-probabilities, checkpoints, metrics and the Hugging Face directory `model` to
<workdir>/train_dpo. A killed run continues.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.train.dpo", "dpo.py", distributed=True)
