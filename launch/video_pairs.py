"""Chooses video-level preference pairs from the scores (paper, section 3.3).

    python launch/video_pairs.py --config=configs/video_pairs.py --workdir=runs/mine

Reads <workdir>/score_videos/scores.jsonl; writes <workdir>/video_pairs/pairs.jsonl.
If the rules change, it chooses again, without rendering or scoring.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.feedback.video_pairs", "video_pairs.py")
