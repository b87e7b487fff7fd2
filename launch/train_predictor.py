r"""Fits a predictor of the video reward on the scores so far (docs/beyond.md).

    python launch/train_predictor.py --config=configs/train_predictor.py \
      --workdir=runs/mine

Reads groups/groups.jsonl and train_sft/model; writes predictor.npz and report.json to
<workdir>/train_predictor.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage(
    "vpo_jax.predict.train_predictor", "train_predictor.py", distributed=True
  )
