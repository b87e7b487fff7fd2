"""Renders and scores the candidates that passed, and makes video-level pairs.

    python launch/video_pairs.py --config=configs/video_pairs.py --workdir=runs/mine

Reads sample/candidates.jsonl and text_pairs/judged.jsonl; writes videos, scores.jsonl,
pairs.jsonl and set_aside.jsonl to <workdir>/video_pairs.
"""

from vpo_jax.feedback import video_pairs
from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage(video_pairs.run, "video_pairs.py")
