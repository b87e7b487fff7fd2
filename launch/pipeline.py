"""Runs all stages in the paper's order; what is done already is not done again.

    python launch/pipeline.py --config=configs/quickstart.py --workdir=runs/quickstart

Ends with a table of what happened, also kept as <workdir>/report.json. Killed at any
moment and run again, it goes on where it was. A config with `evaluate` compares the
models on the test queries as well, and `variants` among them: "NAME STAGE.KEY=VALUE"
trains once more with a value changed, from the first stage that it changes on.
"""

import time

import ml_collections

from vpo_jax.runtime import allocator, app, console


def main(config: ml_collections.ConfigDict, workdir: str) -> None:
  from vpo_jax import pipeline
  from vpo_jax.evaluate import report
  from vpo_jax.runtime import compilation

  began = time.monotonic()
  compilation.enable_cache(workdir)
  counts = pipeline.run(config, workdir)
  report.run(config.report, workdir, base=config.train_sft.model, counts=counts)
  minutes, seconds = divmod(round(time.monotonic() - began), 60)
  console.say(f"{workdir}: all stages done; this run took {minutes} min {seconds} s")


if __name__ == "__main__":
  allocator.huge_pages()
  app.run_stage(main, "quickstart.py")
