r"""Trains the video model on pairs of its videos (Diffusion DPO; paper, figure 5).

    python launch/train_diffusion_dpo.py --config=configs/diffusion_dpo.py \
      --workdir=runs/mine --config.renderer.preset=cogvideox-2b ...

Reads diffusion_pairs/train.jsonl and heldout.jsonl; writes checkpoints, metrics and the
LoRA directory `lora`, which `pipe.load_lora_weights` reads, to
<workdir>/train_diffusion_dpo. To render with it: --config.renderer.lora.path=DIRECTORY.
A killed run continues.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.feedback.train_diffusion_dpo", "diffusion_dpo.py")
