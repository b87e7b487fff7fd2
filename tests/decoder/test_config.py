"""How a config.json is read: both versions of transformers, defaults, refusals."""

import pytest

from vpo_jax import errors
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import known

TINY = {
  "hidden_size": 64,
  "intermediate_size": 96,
  "num_hidden_layers": 7,
  "num_attention_heads": 4,
  "vocab_size": 100,
}


def windows(config):
  return [config.kinds[kind].window for kind in config.kind_of_layer]


def frequency(config, layer):
  """The second-highest RoPE frequency of a layer."""
  return config.kinds[config.kind_of_layer[layer]].rope.frequencies[1]


def test_gemma_3_is_read_as_transformers_4_and_5_write_it():
  old = {
    **TINY,
    "model_type": "gemma3_text",
    "sliding_window": 24,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    "sliding_window_pattern": 6,
  }
  local, one_global = ["sliding_attention"] * 5, ["full_attention"]
  new = {
    **TINY,
    "model_type": "gemma3_text",
    "sliding_window": 24,
    "layer_types": [*local, *one_global, "sliding_attention"],
    "rope_parameters": {
      "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
      "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    },
  }
  config = decoder_config.parse(old)
  assert config == decoder_config.parse(new)
  assert windows(config) == [24] * 5 + [None, 24]
  assert frequency(config, 0) == pytest.approx(1e4 ** (-1 / 128))
  assert frequency(config, 5) == pytest.approx(1e6 ** (-1 / 128) / 8)


def test_gemma_3_4b_leaves_out_what_is_its_default():
  """The hub's config.json of the model of text and images."""
  short = {
    "model_type": "gemma3",
    "eos_token_id": [1, 106],
    "text_config": {
      "hidden_size": 2560,
      "intermediate_size": 10240,
      "model_type": "gemma3_text",
      "num_hidden_layers": 34,
      "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
      "sliding_window": 1024,
    },
    "vision_config": {"model_type": "siglip_vision_model"},
  }
  assert decoder_config.parse(short) == decoder_config.parse(known.MODELS["gemma3-4b"])


def test_the_window_of_qwen_is_for_the_last_layers_and_off_by_default():
  qwen = {**TINY, "model_type": "qwen2", "sliding_window": 24, "max_window_layers": 5}
  assert windows(decoder_config.parse(qwen)) == [None] * 7
  on = decoder_config.parse(qwen | {"use_sliding_window": True})
  assert windows(on) == [None] * 5 + [24] * 2


def test_flops_of_local_layers_count_the_keys_in_their_window():
  mistral = {**TINY, "model_type": "mistral", "num_key_value_heads": 4}
  whole = decoder_config.parse(mistral | {"sliding_window": None})
  local = decoder_config.parse(mistral | {"sliding_window": 24})
  assert local.flops_per_token(20) == whole.flops_per_token(20)
  assert local.flops_per_token(80) == whole.flops_per_token(24)


@pytest.mark.parametrize(
  ("hf", "message"),
  [
    ({"model_type": "phi3"}, "model_type 'phi3' is not one of llama, mistral, qwen2"),
    ({"model_type": "llama", "hidden_act": "gelu"}, "hidden_act 'gelu' is not support"),
    (
      {"model_type": "gemma3_text", "use_bidirectional_attention": True},
      "use_bidirectional_attention True is not supported",
    ),
    (
      {"model_type": "qwen3", "layer_types": ["chunked_attention"] * 7},
      "layer_types has 'chunked_attention', which is not supported",
    ),
    (
      {"model_type": "qwen3", "layer_types": ["full_attention"]},
      "1 layer_types for 7 layers",
    ),
    ({"model_type": "llama", "vocab_size": None}, "vocab_size is missing"),
  ],
)
def test_what_is_not_supported_is_one_line(hf, message):
  with pytest.raises(errors.UserError, match=f"config: {message}"):
    decoder_config.parse(TINY | hf)
