"""Promptist (arXiv:2212.09611), a baseline of the paper's tables 1 to 4.

Part of configs/evaluate.py as `config.promptist`, for a row "NAME=promptist [MODEL]" of
`config.systems`. Its generation settings are those of the model's card and fixed:
torch_bridge/programs/promptist.py.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.queries = ""  # set by the stage
  config.model = "microsoft/Promptist"  # directory or hub id
  config.revision = ""  # commit of the hub id
  config.tokenizer = ""  # "" is the directory's, or else "gpt2"
  # Interpreter with torch and transformers; "" is the one that runs the evaluation.
  config.python = ""
  config.device = ""  # "" is cuda if there is one
  config.batch_size = 1  # queries at once; as the model's card
  return config
