"""Compares systems on the test queries: rewards, alignment, safety (paper, section 4).

    python launch/evaluate.py --config=configs/evaluate.py --workdir=runs/mine

Writes <workdir>/evaluate/README.md and results.json. Killed and run again, it goes on
where it was.
"""

from vpo_jax.evaluate import experiment
from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage(experiment.run, "evaluate.py")
