"""Llama 2, 3, 3.1 and 3.2, and SmolLM2: the plain case."""

from typing import Any

from vpo_jax.decoder.families.hf_config import Reader


def features(read: Reader) -> dict[str, Any]:
  """See `families.Family`."""
  read.require("hidden_act", "silu")
  return {
    "tied": read.tied(default=False),
    "ropes": [read.rope()] * read.layers,
    "windows": [None] * read.layers,
    "biases": biases(read),
  }


def biases(read: Reader) -> tuple[str, ...]:
  """The matrices with a bias by the keys `attention_bias` and `mlp_bias`."""
  attention = ("q", "k", "v", "o") if read.get("attention_bias") else ()
  feed_forward = ("gate", "up", "down") if read.get("mlp_bias") else ()
  return attention + feed_forward
