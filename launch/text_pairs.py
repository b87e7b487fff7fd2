"""Judges every sampled candidate and pairs flawed ones (paper, section 3.3).

    python launch/text_pairs.py --config=configs/text_pairs.py --workdir=runs/mine

Reads <workdir>/sample/candidates.jsonl; writes judged.jsonl, pairs.jsonl,
set_aside.jsonl and the journal of all replies to <workdir>/text_pairs. Without a key:
--config.teacher.base_url=offline. Killed and run again, it goes on.
"""

from vpo_jax import app
from vpo_jax.feedback import text_pairs

if __name__ == "__main__":
  app.run_stage(text_pairs.run, "text_pairs.py")
