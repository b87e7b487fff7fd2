"""Builds SFT data by few-shot generation, critique and refinement (paper, 3.2).

    python launch/build_sft.py --config=configs/build_sft.py --workdir=runs/mine

Reads <workdir>/curate/sft.jsonl; writes train.json, heldout.json, the journal of all
replies and a data card to <workdir>/build_sft. A killed run continues.

    --config.teacher.dry_run        print calls, tokens and cost; send nothing
    --config.teacher.max_cost=20    stop at 20 dollars; run again to continue
    --config.teacher.batch          OpenAI's Batch API: half the price, slower
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.teacher.build_sft", "build_sft.py")
