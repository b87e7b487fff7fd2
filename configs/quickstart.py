"""The whole loop on one small machine: 2 cores, no GPU, no key, no hub.

    python launch/pipeline.py --config=configs/quickstart.py --workdir=runs/quickstart

The miniature (configs/miniature.py) with fewer queries: every stage is the real one,
and the last table has the reward of users' queries, of the SFT model and of VPO.
"""

import ml_collections

from configs import miniature


def get_config() -> ml_collections.ConfigDict:
  config = miniature.get_config()
  config.variants = ()
  config.curate.sizes.update(
    sft_general=340,
    sft_safety=60,
    dpo_general=120,
    dpo_safety=30,
    test_general=90,
    test_safety=10,
  )
  # Few unsafe queries to learn from, so a judge that sees most of the harm.
  for stage in (config.build_sft, config.text_pairs):
    stage.teacher.server_options.harm_overlooked = 0.1
  config.build_sft.heldout = 0.05  # about 20 examples, so that a loss means something
  # For fewer steps than the miniature's, a third of them.
  config.train_sft.optimizer.peak_lr = 4e-4
  config.train_dpo.optimizer.peak_lr = 5e-5
  # Few queries: any two prompts of one, not only neighbours in reward.
  config.video_pairs.rules.pairing = "every"
  config.merge_pairs.heldout = 0.1
  del config.evaluate.video_models.second
  config.evaluate.systems = ("original=query", "sft=train_sft/model", "vpo=vpo")
  return config
