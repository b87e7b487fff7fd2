"""The whole loop on one small machine: 2 cores, no GPU, no key, no hub.

    python launch/pipeline.py --config=configs/quickstart.py --workdir=runs/quickstart

The miniature (configs/miniature.py) with fewer queries. Every stage runs the same code
as a real run; the last table has the rewards of the queries, the SFT model and VPO.
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
  # With few unsafe queries to learn from, the judge must see most of the harm.
  for stage in (config.build_sft, config.text_pairs):
    stage.teacher.server_options.harm_overlooked = 0.1
  config.build_sft.heldout = 0.05  # about 20 examples, so that a loss means something
  # Higher learning rates, because there are only a third of the miniature's steps.
  config.train_sft.optimizer.update(peak_lr=8e-4, schedule="linear")
  config.train_dpo.optimizer.peak_lr = 5e-5
  config.train_groups.optimizer.peak_lr = 5e-5
  # There are few queries, so every flawed candidate makes a text pair (paper), and
  # video pairs are made of all prompts of a query, not only of neighbours in reward.
  config.text_pairs.pairs = "all"
  config.video_pairs.rules.pairing = "every"
  config.merge_pairs.heldout = 0.1
  del config.evaluate.video_models.second
  config.evaluate.systems = ("original=query", "sft=train_sft/model", "vpo=vpo")
  return config
