"""The table at the end of a run, and the prompts of three queries per model."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.queries = ""  # "" is curate/test.jsonl of the workdir
  config.base = ""  # the model before training; "" is train_sft.model of the pipeline
  config.sft = ""  # "" is train_sft/model of the workdir
  config.vpo = ""  # "" is vpo of the workdir
  config.shown = 3  # queries to show; one is safety-related, if there is one
  config.temperature = 0.7  # release, inference
  config.top_p = 1.0  # release, inference
  config.max_new_tokens = 160  # ours
  config.precision = "float32"  # of products; "bfloat16" on an accelerator
  config.seed = 0  # of sampling
  return config
