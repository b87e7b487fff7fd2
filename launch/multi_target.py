r"""Trains one policy for several video models, and one for each of them.

    python launch/multi_target.py --config=configs/multi_target.py:miniature \
      --workdir=runs/miniature-0

A killed run continues at the stage where it was. Ends with the reward of each policy on
each video model, which is also in <workdir>/targets/transfer.json (docs/targets.md).
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_pipeline("multi_target.py", "vpo_jax.multi_target")
