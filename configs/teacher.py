"""The teacher and judge: the same model is asked to write, critique and refine.

Part of configs/build_sft.py and configs/text_pairs.py as `config.teacher`. The paper
names GPT-4o; any server that speaks OpenAI's chat completions serves. The key is read
from the environment variable that `api_key_env` names and is never written anywhere.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.base_url = ""  # address of a running server; "" is OpenAI's
  # Module path of a server to run while the stage runs, for example one that starts
  # vLLM on this machine: its serve(options, texts) is a context manager that yields the
  # base URL; texts are the stage's templates by name.
  config.server = ""
  config.server_options = ml_collections.ConfigDict()  # the options of that server
  config.api_key_env = "OPENAI_API_KEY"  # variable that holds the key; "" for no key
  config.model = "gpt-4o"  # paper, section 3.2
  config.temperature = 0.7  # release; the paper does not say
  config.max_tokens = 1024  # ours: several times what a critique takes
  # "max_completion_tokens" for OpenAI's o-series and gpt-5, which also want
  # temperature=1 and a larger limit: it counts the tokens that they think in.
  config.limit_name = "max_tokens"
  config.seed = 0  # sent with each request, plus the sample's index
  config.samples = 3  # draws of a reply that lacks its marker before it is set aside
  config.parallel = 20  # release
  config.timeout_s = 120.0  # ours
  config.retries = 8  # ours: about half a minute of backoff, more with Retry-After
  # Model, US dollars for a million prompt tokens, and for a million completion tokens:
  # OpenAI's list of 2025.
  config.prices = (
    "gpt-4o 2.50 10.00",
    "gpt-4o-mini 0.15 0.60",
    "gpt-4.1 2.00 8.00",
    "gpt-4.1-mini 0.40 1.60",
  )
  config.max_cost = 0.0  # US dollars at which nothing more is sent; 0 is no limit
  config.dry_run = False  # say what it would cost, and send nothing
  config.batch = False  # by OpenAI's Batch API: half the price, within a day
  config.poll_s = 60.0  # ours: seconds between looks at a batch
  # "" keeps the journal in the stage's folder; a path shares it between runs.
  config.journal = ""
  return config
