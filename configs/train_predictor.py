"""A head that predicts a prompt's video reward from hidden states (docs/beyond.md).

    python launch/train_predictor.py --workdir=runs/mine

Learns from the scored candidates in runs/mine/groups/groups.jsonl.
"""

import ml_collections

from configs import mesh


def get_config() -> ml_collections.ConfigDict:
  """Our settings; the paper has no predictor."""
  config = ml_collections.ConfigDict()
  config.groups = ""  # groups; "" is groups/groups.jsonl of the workdir
  # scored.jsonl of an earlier predictor, whose groups are learned from too.
  config.earlier = ""
  # Directory or hub id of the model that reads the prompts; "" is train_sft/model of
  # the workdir. To choose among prompts at use, name the model that is served.
  config.model = ""
  config.instruction = ""  # template file; "" is the model's, or the embedded one
  config.precision = "float32"  # of products; must be the same wherever it is used
  config.folds = 5  # of the cross-validation, which never splits a query
  # Pairs count if their rewards differ by more; the least margin of the paper's video
  # pairs (configs/video_pairs.py).
  config.margin = 0.5
  config.mesh = mesh.get_config()
  config.mesh.data = -1  # each device has the weights and reads its own prompts
  return config
