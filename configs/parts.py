"""The queries of each round, and those that all rounds are measured on.

Part of configs/rounds.py.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.queries = ""  # "" is curate/dpo.jsonl of the workdir
  config.count = 4  # rounds; set from config.rounds.count
  config.heldout = 100  # queries that are rendered in every round and train nothing
  config.fresh = True  # each round has its own queries; False: all in every round
  config.seed = 0  # of the order
  return config
