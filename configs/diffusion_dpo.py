"""Diffusion DPO of the video model (arXiv:2311.12908; paper, section 4.5, figure 5).

    python launch/train_diffusion_dpo.py --config=configs/diffusion_dpo.py \
      --workdir=runs/mine --config.renderer.preset=cogvideox-2b ...

The paper gives no numbers. Those below are of VisionReward's experiment with
CogVideoX-2B (arXiv:2412.21059), by the same group, unless another source is named; for
CogVideoX-5B it has batch 64, learning rate 2e-6 and 300 steps. docs/diffusion_dpo.md
says what is computed.
"""

import ml_collections

from configs import bridge


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.train = ""  # pairs; "" is diffusion_pairs/train.jsonl of the workdir
  config.heldout = ""  # pairs; "" is diffusion_pairs/heldout.jsonl of the workdir
  config.seed = 0  # of the order of the pairs, the noise, and LoRA's random matrices

  config.method = "lora"  # or "full": all weights, in float32
  config.rank = 128  # CogVideoX-2B-MaskDPO's script
  config.alpha = 256  # the same
  # The ends of the names of the adapted layers; ours: CogVideoX's, Wan's, LTX's,
  # HunyuanVideo's and Mochi's attention.
  config.targets = ("to_q", "to_k", "to_v", "to_out.0")

  # In -log sigmoid(-(beta / 2) [...]), as in the authors' code; diffusers' example has
  # no 1/2, so 500 here is 250 there. It belongs to e as a mean over latent elements.
  config.beta = 500.0
  config.batch_size = 32  # pairs
  config.steps = 500
  config.peak_lr = 1e-5  # MaskDPO, for a LoRA; VisionReward: 5e-6
  config.warmup = 100  # steps; then linear decay to 0
  config.beta1 = 0.9  # of AdamW, as the next; default of torch
  config.beta2 = 0.999
  config.weight_decay = 0.0  # ours
  config.clip_norm = 1.0  # ours
  config.precision = "bfloat16"  # of the frozen weights and of products; or float32

  # Held-out prompts are rendered and scored every so many steps; the best step's
  # weights are the result.
  config.evaluate_every = 40
  config.evaluation_prompts = 64  # ours

  # The keys below do not change the result but for rounding; a run may continue with
  # other values.
  config.micro_batch = 1  # pairs at a time in a process; halved when memory runs out
  config.gradient_checkpointing = True
  config.processes = 0  # 0 is one per GPU, or one on a CPU
  config.shard = False  # shard the weights over the processes (FSDP), not copy them
  config.checkpoint_every = 20  # steps
  config.keep = 2  # checkpoints
  bridge.add(config)
  return config
