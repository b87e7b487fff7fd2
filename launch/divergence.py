r"""Estimates how far a trained model is from the one it began as (docs/beyond.md).

    python launch/divergence.py --workdir=runs/mine \
      --config.candidates=runs/mine/rounds/1/heldout/sample/candidates.jsonl

Prints the KL divergence in nats of a prompt; writes <workdir>/divergence.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.train.divergence", "divergence.py", distributed=True)
