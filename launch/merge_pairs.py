"""Merges text-level and video-level pairs into the data that DPO trains on.

    python launch/merge_pairs.py --config=configs/merge_pairs.py --workdir=runs/mine

Reads text_pairs/pairs.jsonl and video_pairs/pairs.jsonl; writes pairs.jsonl, train.json
and heldout.json to <workdir>/merge_pairs.
"""

from vpo_jax.feedback import merge
from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage(merge.run, "merge_pairs.py")
