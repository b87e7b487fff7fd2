"""Tries a config with your real models on a few queries, and forecasts the full run.

    python launch/preflight.py --config=configs/paper.py --workdir=/scratch/preflight

First it checks what needs no computing: keys, model directories or hub revisions,
interpreters and their packages, question and weight files, devices. Then it runs every
stage on `--queries` queries, each in a process of its own. After a failure it continues
with the stages that do not depend on the failed one. The table has each stage's result,
seconds, peak memory, and the full run's hours, GPU hours, dollars and disk. The exit
code is 1 if anything is not ready. <workdir>/preflight.json has everything.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_preflight("paper.py")
