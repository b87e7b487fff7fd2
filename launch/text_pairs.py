"""Judges every candidate and pairs flawed ones with refinements (paper, section 3.3).

    python launch/text_pairs.py --config=configs/text_pairs.py --workdir=runs/mine

Reads <workdir>/sample/candidates.jsonl; writes judged.jsonl, pairs.jsonl,
set_aside.jsonl and the journal of all replies to <workdir>/text_pairs. A killed run
continues.

    --config.teacher.dry_run        print calls, tokens and cost; send nothing
    --config.teacher.max_cost=20    stop at 20 dollars; run again to continue
    --config.teacher.batch          OpenAI's Batch API: half the price, slower
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.feedback.text_pairs", "text_pairs.py")
