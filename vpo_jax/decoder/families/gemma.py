"""Gemma 2 and the language models of Gemma 3."""

from typing import Any

from vpo_jax.decoder.families.hf_config import Reader

GEMMA2_DEFAULTS = {
  "num_key_value_heads": 4,
  "head_dim": 256,
  "max_position_embeddings": 8192,
  "query_pre_attn_scalar": 256,
  "sliding_window": 4096,
  "attn_logit_softcapping": 50.0,
  "final_logit_softcapping": 30.0,
}
# The config.json of Gemma 3 4B leaves out the values that equal these.
GEMMA3_DEFAULTS = {
  "vocab_size": 262208,
  "hidden_size": 2304,
  "intermediate_size": 9216,
  "num_hidden_layers": 26,
  "num_attention_heads": 8,
  "num_key_value_heads": 4,
  "head_dim": 256,
  "max_position_embeddings": 131072,
  "query_pre_attn_scalar": 256,
  "sliding_window": 4096,
}


def gemma2(read: Reader) -> dict[str, Any]:
  """Every second layer is local; scores and logits are bounded."""
  types = _local_and_global(read, 2)
  return _common(read) | {
    "ropes": [read.rope()] * read.layers,
    "windows": read.windows(types),
  }


def gemma3(read: Reader) -> dict[str, Any]:
  """Five of six layers are local, with their own RoPE; queries and keys have norms."""
  read.require("use_bidirectional_attention", False)
  types = _local_and_global(read, read.get("sliding_window_pattern", 6))
  parameters = read.get("rope_parameters", {})  # of transformers 5, by type of layer
  ropes = {
    "full_attention": read.rope_from(
      parameters.get("full_attention") or read.get("rope_scaling", {}),
      read.get("rope_theta", 1e6),
    ),
    "sliding_attention": read.rope_from(
      parameters.get("sliding_attention") or {},
      read.get("rope_local_base_freq", 1e4),
    ),
  }
  return _common(read) | {
    "ropes": [ropes[kind] for kind in types],
    "windows": read.windows(types),
    "qk_norm": True,
  }


def _local_and_global(read: Reader, every: int) -> list[str]:
  """Each layer's type: the last of each `every` layers is global."""
  return read.layer_types(
    [
      "sliding_attention" if (layer + 1) % every else "full_attention"
      for layer in range(read.layers)
    ]
  )


def _common(read: Reader) -> dict[str, Any]:
  read.require("hidden_activation", "gelu_pytorch_tanh")
  read.require("attention_bias", False)
  return {
    "tied": read.tied(default=True),
    "query_scale": read["query_pre_attn_scalar"] ** -0.5,
    "activation": "gelu_tanh",
    "norm_offset": 1.0,
    "output_norms": True,
    "embed_scale": read["hidden_size"] ** 0.5,
    "score_cap": read.get("attn_logit_softcapping"),
    "logit_cap": read.get("final_logit_softcapping"),
  }
