"""The teacher and judge: the same model is asked to write, critique and refine.

Part of configs/build_sft.py and configs/text_pairs.py as `config.teacher`. The paper
names GPT-4o; any server that speaks OpenAI's chat completions serves. The key is read
from the environment variable that `api_key_env` names and is never written anywhere.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  # "" is OpenAI; "offline" starts the rule-based stand-in (vpo_jax/teacher/offline).
  config.base_url = ""
  config.api_key_env = "OPENAI_API_KEY"  # "" for a server that wants no key
  config.model = "gpt-4o"  # paper, section 3.2; offline: always offline-rules
  config.temperature = 0.7  # release; the paper does not say
  config.max_tokens = 1024  # ours: several times what a critique takes
  config.seed = 0  # sent with each request, plus the sample's index
  config.samples = 3  # draws of a reply that lacks its marker before it is set aside
  config.parallel = 20  # release
  config.timeout_s = 120.0  # ours
  config.retries = 8  # ours: about half a minute of backoff, more with Retry-After
  # "" keeps the journal in the stage's folder; a path shares it between runs.
  config.journal = ""
  return config
