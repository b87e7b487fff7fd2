"""The whole loop on one small machine: 2 cores, no GPU, no key, no hub.

    python launch/pipeline.py --config=configs/quickstart.py --workdir=runs/quickstart

Every stage is the real one; what is shrunk is written below with the paper's number.
Expect eleven minutes, a held-out SFT loss that falls by more than a quarter, and a
reward accuracy on held-out pairs above one half. The numbers are too small for a good
optimizer: they show that every part works.
"""

import ml_collections

from configs import (
  build_sft,
  curate,
  dpo,
  export,
  merge_pairs,
  report,
  sample,
  sft,
  text_pairs,
  video_pairs,
)
from vpo_jax.llama import source


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()

  config.curate = curate.get_config()
  config.curate.sizes.update(
    sft_general=88,  # paper: 9,000
    sft_safety=24,  # paper: 1,000
    dpo_general=36,  # paper: 9,000
    dpo_safety=10,  # paper: 1,000
    test_general=16,
    test_safety=4,
  )

  config.build_sft = build_sft.get_config()
  config.build_sft.teacher.base_url = "offline"  # rules in place of GPT-4o
  config.build_sft.heldout = 0.12  # about 16 examples, so that a loss means something

  config.train_sft = sft.get_config()
  config.train_sft.update(
    model=source.SMOLLM2,  # 135M; paper: Llama-3-8B-Instruct
    batch_size=4,  # paper: 64
    epochs=1,  # paper: 5
  )
  _shrink(config.train_sft)
  config.train_sft.optimizer.peak_lr = 2e-4  # paper: 2e-6, over 780 steps of 64

  config.sample = sample.get_config()
  config.sample.update(
    max_new_tokens=128,  # release: 2048; the offline teacher's prompts take about 75
  )

  config.text_pairs = text_pairs.get_config()
  config.text_pairs.teacher.base_url = "offline"

  config.video_pairs = video_pairs.get_config()

  config.merge_pairs = merge_pairs.get_config()
  config.merge_pairs.heldout = 0.25  # ours: few pairs, so a larger part tells more

  config.train_dpo = dpo.get_config()
  config.train_dpo.update(
    batch_size=4,  # paper: 16; one epoch is the paper's
  )
  _shrink(config.train_dpo)
  config.train_dpo.optimizer.peak_lr = 1e-5  # paper: 5e-7, over 310 steps of 16

  config.export = export.get_config()
  config.report = report.get_config()
  return config


def _shrink(config: ml_collections.ConfigDict) -> None:
  """What a CPU wants: float32 products, no recomputation, small micro-batches."""
  config.update(
    precision="float32",
    remat="none",
    micro_tokens=1024,
    shapes=1,  # few steps: a second shape costs more to compile than it saves
    eval_every=1000,  # at the start and the end only
    checkpoint_every=10,  # a killed run loses about a minute
    keep_checkpoints=1,
  )
  config.mesh.update(data=1, fsdp=1, tensor=1)
