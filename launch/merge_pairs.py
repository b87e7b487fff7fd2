"""Merges text-level and video-level pairs into the preference data set (paper, 3.3).

    python launch/merge_pairs.py --config=configs/merge_pairs.py --workdir=runs/mine

Reads text_pairs/pairs.jsonl and video_pairs/pairs.jsonl; writes train.json and
heldout.json to <workdir>/merge_pairs.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.feedback.merge_pairs", "merge_pairs.py")
