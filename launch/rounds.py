"""Repeats sampling, judging, rendering and training from the current model.

    python launch/rounds.py --config=configs/rounds.py:miniature --workdir=runs/rounds

A killed run continues at the stage where it was. Ends with a table, which is also in
<workdir>/rounds/rounds.json; the best model is <workdir>/rounds/vpo (docs/beyond.md).
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_pipeline("rounds.py", "vpo_jax.rounds")
