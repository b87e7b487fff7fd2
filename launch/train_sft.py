r"""Fine-tunes the policy on the teacher's prompts (paper, section 3.2).

    python launch/train_sft.py --config=configs/sft.py --workdir=runs/mine \
      --config.model=DIRECTORY_OR_HUB_ID

Reads build_sft/train.json and heldout.json; writes checkpoints, metrics and the
Hugging Face directory `model` to <workdir>/train_sft. Killed and run again, it goes on.
"""

from vpo_jax.runtime import allocator, app


def train(config, workdir: str) -> None:
  from vpo_jax.runtime import compilation
  from vpo_jax.train import sft

  compilation.enable_cache(workdir)
  sft.run(config, workdir)


if __name__ == "__main__":
  allocator.huge_pages()
  app.run_stage(train, "sft.py", together=True)
