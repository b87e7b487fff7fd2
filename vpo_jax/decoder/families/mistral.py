"""Mistral 7B and Mistral Nemo: a head size of its own, and in version 0.1 a window."""

from typing import Any

from vpo_jax.decoder.families.hf_config import Reader

DEFAULTS = {"num_key_value_heads": 8}


def features(read: Reader) -> dict[str, Any]:
  """See `families.Family`."""
  read.require("hidden_act", "silu")
  return {
    "tied": read.tied(default=False),
    "ropes": [read.rope()] * read.layers,
    "windows": [read.get("sliding_window")] * read.layers,
  }
