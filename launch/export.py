"""Exports the trained optimizer as a Hugging Face directory.

    python launch/export.py --config=configs/export.py --workdir=runs/mine

Writes <workdir>/vpo from <workdir>/train_dpo/model; with --config.adapter the LoRA
adapter alone to <workdir>/vpo_adapter.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.serve.export", "export.py")
