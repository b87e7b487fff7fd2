"""Runs all stages in the paper's order; what is done already is not done again.

    python launch/pipeline.py --config=configs/quickstart.py --workdir=runs/quickstart

Ends with a table of what happened, also kept as <workdir>/report.json. Killed at any
moment and run again, it goes on where it was.
"""

import time

import ml_collections

from vpo_jax import app, console
from vpo_jax.curate import curate
from vpo_jax.evaluate import report
from vpo_jax.feedback import merge, text_pairs, video_pairs
from vpo_jax.sample import stage as sample
from vpo_jax.serve import export
from vpo_jax.teacher import build_sft
from vpo_jax.train import dpo, sft

STAGES = {
  "curate": curate.run,
  "build_sft": build_sft.run,
  "train_sft": sft.run,
  "sample": sample.run,
  "text_pairs": text_pairs.run,
  "video_pairs": video_pairs.run,
  "merge_pairs": merge.run,
  "train_dpo": dpo.run,
  "export": export.run,
}


def pipeline(config: ml_collections.ConfigDict, workdir: str) -> None:
  began = time.monotonic()
  counts = {}
  for number, (name, stage) in enumerate(STAGES.items(), start=1):
    start = time.monotonic()
    counts[name] = stage(config[name], workdir)
    took = time.monotonic() - start
    console.say(f"{number}/{len(STAGES)} {name}: {took:.0f} s")
  report.run(config.report, workdir, base=config.train_sft.model, counts=counts)
  minutes, seconds = divmod(round(time.monotonic() - began), 60)
  console.say(f"{workdir}: all stages done; this run took {minutes} min {seconds} s")


if __name__ == "__main__":
  app.run_stage(pipeline, "quickstart.py")
