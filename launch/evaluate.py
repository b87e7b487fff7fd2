"""Compares systems on the test queries: alignment, safety, reward (paper, section 4).

    python launch/evaluate.py --config=configs/evaluate.py --workdir=runs/mine

Writes each system's prompts and verdicts to <workdir>/systems, and the tables to
<workdir>/evaluate/README.md and results.json.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.evaluate.evaluate", "evaluate.py")
