r"""Chooses the candidates that are worth a render, by the predictor (docs/beyond.md).

    python launch/choose.py --config=configs/choose.py --workdir=runs/mine \
      --config.videos=1000
    python launch/score_videos.py --workdir=runs/mine \
      --config.chosen=True

Reads sample/candidates.jsonl, text_pairs/judged.jsonl, train_predictor and
train_sft/model; writes candidates.jsonl and predictions.jsonl to <workdir>/choose.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.predict.choose", "choose.py", distributed=True)
