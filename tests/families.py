"""A tiny random model of each family, made by transformers."""

import pytest
import torch
import transformers

VOCAB = 1024  # of the tiny tokenizer in conftest.py

_SIZES = {
  "vocab_size": VOCAB,
  "hidden_size": 64,
  "intermediate_size": 96,
  "num_hidden_layers": 3,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "max_position_embeddings": 1024,
  "initializer_range": 0.2,  # far from uniform logits
  "pad_token_id": None,
  "bos_token_id": 1,
  "eos_token_id": 2,
}
_YARN = {
  "rope_type": "yarn",
  "rope_theta": 1e6,
  "factor": 4.0,
  "original_max_position_embeddings": 256,
}
_LLAMA3 = {
  "rope_type": "llama3",
  "rope_theta": 10000.0,
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 64,
}
_LINEAR = {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}
_GEMMA = {"query_pre_attn_scalar": 24, "head_dim": 32, "tie_word_embeddings": True}

# Class of transformers' config, and what differs from _SIZES, by name. Windows are
# shorter than the tests' rows, and each kind of layer is there.
FAMILIES = {
  "llama": ("Llama", {"tie_word_embeddings": False}),
  "llama3_rope": ("Llama", {"rope_parameters": _LLAMA3}),
  "llama_biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
  "mistral": ("Mistral", {"head_dim": 32, "sliding_window": None}),
  "mistral_window": ("Mistral", {"sliding_window": 24}),
  "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
  "qwen2_window": (
    "Qwen2",
    {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 2},
  ),
  "qwen2_yarn": ("Qwen2", {"rope_parameters": _YARN}),
  "qwen3": ("Qwen3", {"head_dim": 32}),
  "smollm3": (
    "SmolLM3",
    {"num_hidden_layers": 5, "tie_word_embeddings": True, "no_rope_layer_interval": 4},
  ),
  "gemma2": (
    "Gemma2",
    # Caps of the size of scores and logits, so that they matter.
    _GEMMA
    | {
      "sliding_window": 24,
      "attn_logit_softcapping": 2.0,
      "final_logit_softcapping": 3.0,
    },
  ),
  "gemma3": (
    "Gemma3Text",
    _GEMMA
    | {
      "num_hidden_layers": 7,
      "sliding_window": 24,
      "rope_parameters": {
        "full_attention": _LINEAR,
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
      },
    },
  ),
}


def _all(*fast):
  """Parameters of a test: all families, as slow tests but for those named."""
  return [
    name if name in fast else pytest.param(name, marks=pytest.mark.slow)
    for name in FAMILIES
  ]


# Together they have everything in which families differ.
DISTINCT = _all("llama_biases", "qwen2_window", "qwen3", "smollm3", "gemma2", "gemma3")
# For costly tests: the one with most differences.
FEW = _all("gemma3")


def make(name, folder, **changes):
  """Saves the model of a family to `folder`, and returns it as transformers' own.

  Norms and biases, which transformers sets to 1 and 0, are random too.
  """
  torch.manual_seed(0)
  family, differences = FAMILIES[name]
  config_class = getattr(transformers, f"{family}Config")
  # Implementations of attention differ; "eager" has all features.
  model = transformers.AutoModelForCausalLM.from_config(
    config_class(**_SIZES | differences | changes), attn_implementation="eager"
  ).eval()
  with torch.no_grad():
    for weight in model.parameters():
      if weight.ndim == 1:
        weight += 0.2 * torch.randn_like(weight)
  model.save_pretrained(folder)
  return model
