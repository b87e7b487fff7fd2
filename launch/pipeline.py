"""Runs all stages in the paper's order, then variants, evaluation and report.

    python launch/pipeline.py --config=configs/quickstart.py --workdir=runs/quickstart

Finished stages are not run again, so a killed run continues where it was. The run ends
with a table, which is also in <workdir>/report.json. `--config.variants` trains further
systems, each with a value changed, from the first stage that the change affects:
'("hinge train_dpo.loss=hinge",)'.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_pipeline("paper.py")
