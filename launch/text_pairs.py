"""Judges every sampled candidate and pairs flawed ones (paper, section 3.3).

    python launch/text_pairs.py --config=configs/text_pairs.py --workdir=runs/mine

Reads <workdir>/sample/candidates.jsonl; writes judged.jsonl, pairs.jsonl,
set_aside.jsonl and the journal of all replies to <workdir>/text_pairs. Killed and
run again, it goes on.

    --config.teacher.dry_run            say calls, tokens and cost; send nothing
    --config.teacher.max_cost=20        stop at 20 dollars; run again to go on
    --config.teacher.batch              OpenAI's Batch API: half the price, slower
"""

from vpo_jax.feedback import text_pairs
from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage(text_pairs.run, "text_pairs.py")
