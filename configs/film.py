"""Best of N by real videos: rewrite, film, and keep the best (docs/beyond.md).

    python launch/film.py --config=configs/film.py:quickstart --workdir=runs/films \
      --config.queries=queries.txt --config.sample.model=runs/quickstart/vpo

After the colon stands the config whose video model and scorer are used: paper (the
default), miniature or quickstart.
"""

import importlib

import ml_collections


def get_config(base: str = "paper") -> ml_collections.ConfigDict:
  run = importlib.import_module(f"configs.{base}").get_config()
  config = ml_collections.ConfigDict()
  config.queries = ""  # file: text, JSON, JSON Lines or CSV
  # More than 1: the best prompt so far is rewritten and filmed again, as long as the
  # reward grows.
  config.rounds = 1
  config.videos = 0  # the most videos of a query; 0 is no limit
  config.language = "en"  # prompts in another are not filmed; "" allows any
  config.sample = run.sample.copy_and_resolve_references()
  config.sample.num_candidates = 8
  config.score_videos = run.score_videos.copy_and_resolve_references()
  return config
