"""Configs of Diffusion DPO in the miniature, and candidates for it."""

import pathlib

import numpy as np

from configs import diffusion_dpo, diffusion_pairs, miniature
from torch_bridge.miniature import captions, world
from vpo_jax import records


def write_candidates(path, count):
  """Candidates with one prompt of the miniature's world for each of `count` queries."""
  random = np.random.default_rng(0)
  rows = []
  for number in range(count):
    # Two or three words, so that the noise decides much of what is seen.
    words = captions.write(world.draw(random), random).split()
    prompt = " ".join(random.choice(words, 3, replace=False))
    rows.append(
      records.Candidates(
        query_id=records.row_id("query", number),
        query=prompt,
        category="general",
        model="",
        settings={},
        candidates=(records.Candidate(0, prompt, "stop", 10),),
      )
    )
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  records.write(path, rows)


def pairs_config():
  config = diffusion_pairs.get_config()
  miniature.video_model(config)
  config.text_check = False
  config.videos_per_prompt = 3
  config.rules.update(margin=0.0, dominance="none")
  config.heldout = 0.3
  config.bridge.workers = 1
  return config


def training_config():
  config = diffusion_dpo.get_config()
  miniature.video_model(config)
  config.update(
    rank=4,
    alpha=8,
    batch_size=2,
    micro_batch=2,
    steps=12,
    evaluate_every=4,
    warmup=1,
    peak_lr=1e-3,
    precision="float32",
    gradient_checkpointing=False,
  )
  config.bridge.workers = 1
  return config
