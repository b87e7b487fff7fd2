"""Builds SFT examples: few-shot prompt, critique, refinement (paper, section 3.2).

    python launch/build_sft.py --config=configs/build_sft.py --workdir=runs/mine

Reads the queries of <workdir>/curate/sft.jsonl. Writes the examples (sft.jsonl, and
train.json and heldout.json as trainers read them), set_aside.jsonl, the data card
README.md and the journal of all replies to <workdir>/build_sft. Killed and run again,
it goes on.

    --config.teacher.dry_run            say calls, tokens and cost; send nothing
    --config.teacher.max_cost=20        stop at 20 dollars; run again to go on
    --config.teacher.batch              OpenAI's Batch API: half the price, slower
"""

from vpo_jax.runtime import app
from vpo_jax.teacher import build_sft

if __name__ == "__main__":
  app.run_stage(build_sft.run, "build_sft.py")
