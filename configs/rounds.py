"""Rounds of sampling, rendering and training (docs/beyond.md).

    python launch/rounds.py --config=configs/rounds.py:miniature --workdir=runs/rounds

After the colon stands the config of the run whose stages are repeated: paper (the
default), miniature or quickstart.
"""

import importlib

import ml_collections

from configs import divergence, parts, train_predictor


def get_config(base: str = "paper") -> ml_collections.ConfigDict:
  config = importlib.import_module(f"configs.{base}").get_config()
  config.rounds = rounds = ml_collections.ConfigDict()
  rounds.count = 4  # the most rounds
  rounds.patience = 1  # rounds in a row without a gain that end the run
  rounds.min_gain = 0.0  # of the reward on held-out queries that counts as a gain
  rounds.max_kl = 50.0  # to the SFT model, in nats of a prompt

  config.parts = parts.get_config()
  config.parts.seed = config.get_ref("seed")
  # The budget of each round is its `videos` or `gpu_hours`; without one, all candidates
  # that passed the text check are rendered.
  # A predictor that ranks badly does not end a run of days.
  config.choose.fallback = "random"
  config.train_predictor = train_predictor.get_config()
  config.divergence = divergence.get_config()
  if base != "paper":
    small = config.train_dpo
    config.divergence.update(
      precision=small.precision, batch_size=8, micro_tokens=small.micro_tokens
    )
    config.divergence.mesh.update(small.mesh.to_dict())
  return config
