"""The teacher and judge: one model writes, critiques and refines prompts.

Part of other configs as `config.teacher`. The paper uses GPT-4o; any server with
OpenAI's chat completions API works. The key is read from the environment variable
`api_key_env` and is never stored.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.base_url = ""  # address of a running server; "" is OpenAI's
  # Module path of a server to run during the stage, for example one that starts vLLM on
  # this machine. Its serve(options, texts) returns a context manager that yields the
  # base URL; texts are the stage's templates by name.
  config.server = ""
  config.server_options = ml_collections.ConfigDict()  # passed to that server
  config.api_key_env = "OPENAI_API_KEY"  # variable that holds the key; "" for no key
  config.model = "gpt-4o"  # paper, section 3.2
  config.temperature = 0.7  # release; the paper does not say
  config.top_p = 1.0  # sent if it is not 1; neither paper nor release has another
  # Ours: several times the length of a critique. A model that reasons needs a larger
  # limit, since its reasoning counts: 8192 or more.
  config.max_tokens = 1024
  # "max_completion_tokens" for OpenAI's o-series and gpt-5, which also require
  # temperature=1.
  config.limit_name = "max_tokens"
  config.seed = 0  # sent with each request, plus the sample's index
  config.samples = 3  # replies drawn to get one with its marker; else set aside
  config.parallel = 20  # concurrent requests; release
  config.timeout_s = 120.0  # of a request; ours
  config.retries = 8  # ours: about half a minute of backoff, more with Retry-After
  # Model, US dollars per million prompt tokens, and per million completion tokens:
  # OpenAI's prices of 2025.
  config.prices = (
    "gpt-4o 2.50 10.00",
    "gpt-4o-mini 0.15 0.60",
    "gpt-4.1 2.00 8.00",
    "gpt-4.1-mini 0.40 1.60",
  )
  config.max_cost = 0.0  # US dollars at which the run stops; 0 is no limit
  config.dry_run = False  # print the estimated cost and send nothing
  config.batch = False  # use OpenAI's Batch API: half the price, within a day
  config.poll_s = 60.0  # seconds between polls of a batch; ours
  # SQLite file with all replies, which runs may share; "" is in the stage's folder.
  config.journal = ""
  return config
