"""Collects all candidates of each query with their verdicts and rewards.

    python launch/groups.py --config=configs/groups.py --workdir=runs/mine

Reads sample/candidates.jsonl, text_pairs/judged.jsonl and score_videos/scores.jsonl;
writes groups.jsonl, train.jsonl and heldout.jsonl to <workdir>/groups.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.feedback.groups", "groups.py")
