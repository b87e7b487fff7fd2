"""Candidates for the DPO half: K prompts per query from the SFT model (paper, 3.3).

    python launch/sample.py --workdir=runs/mine

Writes runs/mine/sample/candidates.jsonl from runs/mine/curate/dpo.jsonl and
runs/mine/train_sft/model. A killed run continues.
"""

import ml_collections

from configs import mesh


def get_config() -> ml_collections.ConfigDict:
  """The paper's and the release's settings."""
  config = ml_collections.ConfigDict()
  config.queries = ""  # file of queries; "" is curate/dpo.jsonl of the workdir
  config.model = ""  # directory or hub id; "" is train_sft/model of the workdir
  config.instruction = ""  # template file; "" is the model's, or the embedded one
  # Video model whose notes the instruction gets at {notes}: a profile of
  # configs/targets, or a JSON file; ours. "" leaves them out.
  config.target = ""

  # False: the prompt ends with the user's turn, and the model writes the assistant's
  # header itself, as models do that were trained on chats without it.
  config.generation_prompt = True

  # True: a model that can reason does so first; train it with the same value.
  config.reasoning = False

  config.num_candidates = 4  # paper, 3.3: K = 4
  config.temperature = 0.9  # paper, appendix 9
  config.top_p = 0.9  # release; the paper does not say
  config.top_k = 0  # off; neither paper nor release mentions it
  config.max_new_tokens = 2048  # of a candidate; release
  config.max_prompt_tokens = 1024  # longer queries are set aside; ours
  config.seed = 0  # of the random keys of all candidates

  config.queries_per_part = 64  # finished queries per part file; ours
  # "i/n": sample every n-th query from the i-th on, for n hosts that share a workdir
  # but are not one distributed run.
  config.share = "0/1"

  # "jax", or "openai": a server with the OpenAI API draws the candidates, for example
  # vLLM, which is faster on GPUs. What it draws cannot be reproduced exactly.
  config.engine = "jax"
  config.openai = openai = ml_collections.ConfigDict()
  openai.base_url = "http://localhost:8000/v1"
  openai.model = ""  # the name under which the server has config.model
  openai.api_key_env = ""  # environment variable that holds the key; "" for no key
  openai.parallel = 64  # queries in flight
  openai.timeout_s = 600.0  # of a request
  openai.retries = 8  # about half a minute of backoff

  # The rest is for "jax".
  config.precision = "float32"  # of products; "bfloat16" on an accelerator
  config.slots = 32  # candidates decoded in parallel; ours (docs/performance.md)
  config.mesh = mesh.get_config()
  config.mesh.data = -1  # each device has the weights and samples its own queries
  # With several processes: a block of tokens hangs if it takes this much longer than
  # five times the longest one. The processes then exit, and the same command continues.
  config.hang_minutes = 10.0
  return config
