"""Curates users' queries into an SFT half, a DPO half and a test set (section 3.2).

    python launch/curate.py --config=configs/curate.py \
      --config.input=queries.json --workdir=runs/mine

Writes sft.jsonl, dpo.jsonl, test.jsonl, set_aside.jsonl, rows.parquet and the data card
README.md to <workdir>/curate. With --config.safety.judge=True a model looks at the
safety-related candidates (safety.jsonl). Killed and run again, it goes on.
"""

from vpo_jax.curate import curate
from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage(curate.run, "curate.py")
