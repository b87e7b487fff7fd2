"""Which sampled candidates to render, within a budget (docs/beyond.md).

    python launch/choose.py --workdir=runs/mine --config.videos=1000

Writes runs/mine/choose/candidates.jsonl, which launch/score_videos.py reads with
--config.candidates.
"""

import ml_collections

from configs import mesh


def get_config() -> ml_collections.ConfigDict:
  """Our settings; the paper renders every candidate that passed the text check."""
  config = ml_collections.ConfigDict()
  config.candidates = ""  # "" is sample/candidates.jsonl of the workdir
  # Verdicts: only what passed is chosen; "" is text_pairs/judged.jsonl of the workdir,
  # if it exists.
  config.judged = ""
  config.predictor = ""  # its folder or file; "" is train_predictor of the workdir
  # Directory or hub id of the model that the predictor was trained with; "" is
  # train_sft/model of the workdir.
  config.model = ""
  config.instruction = ""  # template file; "" is the model's, or the embedded one
  config.precision = "float32"  # of products; as in configs/train_predictor.py

  # The budget: one of the two must be set.
  config.videos = 0
  config.gpu_hours = 0.0

  config.seconds_per_video = 0.0  # GPU seconds to render a video, for gpu_hours
  config.videos_per_prompt = 1  # as in configs/score_videos.py
  config.per_query = 2  # most candidates of a query; at least two are chosen or none

  # "spread": a query's highest and lowest predicted reward, which make informative
  # pairs; "promising": the highest; "uncertain": the largest standard deviations;
  # "random": without a predictor.
  config.strategy = "spread"
  # Share of pairs that the predictor must have ranked rightly in cross-validation;
  # chance is 0.5.
  config.min_accuracy = 0.6
  config.fallback = ""  # below min_accuracy: "" stops, "random" chooses at random
  config.seed = 0  # of a random choice
  config.mesh = mesh.get_config()
  config.mesh.data = -1  # each device has the weights and reads its own prompts
  return config
