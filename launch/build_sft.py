"""Builds SFT examples: few-shot prompt, critique, refinement (paper, section 3.2).

    python launch/build_sft.py --config=configs/build_sft.py --workdir=runs/mine

Reads <workdir>/curate/sft.jsonl; writes examples.jsonl, train.json, heldout.json,
set_aside.jsonl and the journal of all replies to <workdir>/build_sft. Killed and
run again, it goes on.

    --config.teacher.base_url=offline   the rule-based stand-in, without a key
    --config.teacher.dry_run            say calls, tokens and cost; send nothing
    --config.teacher.max_cost=20        stop at 20 dollars; run again to go on
    --config.teacher.batch              OpenAI's Batch API: half the price, slower
"""

from vpo_jax import app
from vpo_jax.teacher import build_sft

if __name__ == "__main__":
  app.run_stage(build_sft.run, "build_sft.py")
