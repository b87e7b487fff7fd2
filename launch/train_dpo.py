r"""Optimizes the SFT model on preference pairs (paper, section 3.3).

    python launch/train_dpo.py --config=configs/dpo.py --workdir=runs/mine

Reads merge_pairs/train.json and heldout.json and train_sft/model; writes reference
log-probabilities, checkpoints, metrics and the Hugging Face directory `model` to
<workdir>/train_dpo. Killed and run again, it goes on.
"""

from vpo_jax.runtime import allocator, app


def train(config, workdir: str) -> None:
  from vpo_jax.runtime import compilation
  from vpo_jax.train import dpo

  compilation.enable_cache(workdir)
  dpo.run(config, workdir)


if __name__ == "__main__":
  allocator.huge_pages()
  app.run_stage(train, "dpo.py", together=True)
