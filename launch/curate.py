r"""Curates users' queries into an SFT half, a DPO half and a test set (paper, 3.2).

    python launch/curate.py --config=configs/curate.py --workdir=runs/mine \
      --config.queries=VidProM_semantic_unique.csv

Writes sft.jsonl, dpo.jsonl, test.jsonl and a data card to <workdir>/curate.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.curate.curate", "curate.py")
