"""Chooses test queries of all levels of difficulty for the suite query_alignment.

    python launch/select_queries.py --config=configs/select_queries.py \
      --workdir=runs/mine

Reads <workdir>/curate/test.jsonl; writes queries.jsonl and the journal of all replies
to <workdir>/select_queries. Check queries.jsonl by hand before you use it.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.evaluate.select_queries", "select_queries.py")
