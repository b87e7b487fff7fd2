r"""Renders the candidates that passed the check, and scores their videos (paper, 3.3).

    python launch/score_videos.py --config=configs/score_videos.py --workdir=runs/mine \
      --config.renderer.preset=cogvideox-2b --config.scorer.name=visionreward ...

Reads sample/candidates.jsonl and text_pairs/judged.jsonl; writes scores.jsonl and
set_aside.jsonl to <workdir>/score_videos, and videos and answers to <workdir>/store. A
killed run continues.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.feedback.score_videos", "score_videos.py")
