"""The trained optimizer as a Hugging Face directory, or for Ollama and llama.cpp.

    python launch/export.py --config=configs/export.py --workdir=runs/mine

Writes runs/mine/vpo from runs/mine/train_dpo/model; with --config.adapter it writes
runs/mine/vpo_adapter from runs/mine/train_dpo/adapter, and with --config.format=gguf
runs/mine/vpo_gguf from the model (docs/serving.md).
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  # The stage that trained the model: "train_dpo" or "train_groups".
  config.trained = "train_dpo"
  # "huggingface": a directory; "gguf": one file for Ollama, llama.cpp and LM Studio.
  config.format = "huggingface"
  config.model = ""  # directory; "" is the model of that stage in the workdir
  config.adapter = False  # True: only the LoRA adapter; False: the merged model
  config.base = ""  # base model named in the adapter's config; "" is the local path
  config.instruction = ""  # template file; "" is the model's, or the embedded one
  # Of the tensors: "float32"; "bfloat16" or "float16" takes half of the space. GGUF:
  # "float32", "float16", or "q8_0", 8 bits with a scale for every 32.
  config.dtype = "float32"
  config.temperature = 0.7  # release, inference
  config.top_p = 1.0  # release, inference
  config.max_new_tokens = 512  # ours; the paper's prompts have about 130
  # What users of the model must know: in the model card and on the server's page.
  config.note = ""
  return config
