r"""Fine-tunes the policy on the teacher's prompts (paper, section 3.2).

    python launch/train_sft.py --config=configs/sft.py --workdir=runs/mine \
      --config.model=DIRECTORY_OR_HUB_ID

Reads build_sft/train.json and heldout.json; writes checkpoints, metrics and the Hugging
Face directory `model` to <workdir>/train_sft. A killed run continues.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.train.sft", "sft.py", distributed=True)
