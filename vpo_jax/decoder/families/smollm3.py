"""SmolLM3: every fourth layer does not rotate queries and keys."""

from typing import Any

from vpo_jax.decoder import rope
from vpo_jax.decoder.families import llama
from vpo_jax.decoder.families.hf_config import Reader

DEFAULTS = {"num_key_value_heads": 4}


def features(read: Reader) -> dict[str, Any]:
  """See `families.Family`."""
  read.require("hidden_act", "silu")
  every = read.get("no_rope_layer_interval", 4)
  default = [int((layer + 1) % every != 0) for layer in range(read.layers)]
  rotates = read.get("no_rope_layers", default)[: read.layers]
  local = read.get("use_sliding_window") and read.get("sliding_window")
  types = [
    "sliding_attention" if local and not rotated else "full_attention"
    for rotated in rotates
  ]
  rotation, identity = read.rope(theta=2e6), rope.none(read.head_dim)
  return {
    "tied": read.tied(default=True),
    "ropes": [rotation if rotated else identity for rotated in rotates],
    "windows": read.windows(read.layer_types(types)),
    "biases": llama.biases(read),
  }
