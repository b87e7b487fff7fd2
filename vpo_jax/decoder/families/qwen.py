"""Qwen2, Qwen2.5 and Qwen3 (dense)."""

from typing import Any

from vpo_jax.decoder.families import llama
from vpo_jax.decoder.families.hf_config import Reader

QWEN3_DEFAULTS = {"head_dim": 128}


def qwen2(read: Reader) -> dict[str, Any]:
  """Biases on queries, keys and values. See `families.Family`."""
  return _common(read) | {"biases": ("q", "k", "v")}


def qwen3(read: Reader) -> dict[str, Any]:
  """Norms of queries and keys instead. See `families.Family`."""
  return _common(read) | {"qk_norm": True, "biases": llama.biases(read)}


def _common(read: Reader) -> dict[str, Any]:
  read.require("hidden_act", "silu")
  local = read.layers
  if read.get("use_sliding_window"):
    local = read.get("max_window_layers", 28)
  types = ["full_attention"] * min(local, read.layers)
  types += ["sliding_attention"] * (read.layers - len(types))
  return {
    "tied": read.tied(default=False),
    "ropes": [read.rope()] * read.layers,
    "windows": read.windows(read.layer_types(types)),
  }
