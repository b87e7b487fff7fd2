r"""Renders several videos of each prompt and pairs them by reward, for Diffusion DPO.

    python launch/diffusion_pairs.py --config=configs/diffusion_pairs.py \
      --workdir=runs/mine --config.renderer.preset=cogvideox-2b ...

Reads sample/candidates.jsonl and text_pairs/judged.jsonl; writes train.jsonl,
heldout.jsonl and scores.jsonl to <workdir>/diffusion_pairs, and videos and answers to
<workdir>/store. A killed run continues.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.feedback.diffusion_pairs", "diffusion_pairs.py")
