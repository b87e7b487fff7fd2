"""Frequencies of each type of RoPE equal those of transformers."""

import numpy as np
import pytest
import transformers
from transformers import modeling_rope_utils

from vpo_jax import errors
from vpo_jax.decoder import rope

ORIGINAL = {"original_max_position_embeddings": 512}
TYPES = {
  "linear": {"rope_type": "linear", "factor": 8.0},
  "dynamic": {"rope_type": "dynamic", "factor": 2.0},
  "llama3": {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    **ORIGINAL,
  },
  "yarn": {"rope_type": "yarn", "factor": 4.0, **ORIGINAL},
  "yarn, all numbers": {
    "rope_type": "yarn",
    "factor": 4.0,
    "beta_fast": 16.0,
    "beta_slow": 2.0,
    "attention_factor": 1.25,
    **ORIGINAL,
  },
  "yarn, DeepSeek's scales": {
    "rope_type": "yarn",
    "factor": 40.0,
    "mscale": 1.0,
    "mscale_all_dim": 0.5,
    **ORIGINAL,
  },
  "yarn, not rounded": {
    "rope_type": "yarn",
    "factor": 4.0,
    "truncate": False,
    **ORIGINAL,
  },
}


@pytest.mark.parametrize("name", TYPES)
def test_frequencies_and_scale(name):
  parameters = {"rope_theta": 50000.0, **TYPES[name]}
  config = transformers.LlamaConfig(
    head_dim=64, max_position_embeddings=2048, rope_parameters=parameters
  )
  compute = modeling_rope_utils.ROPE_INIT_FUNCTIONS[parameters["rope_type"]]
  frequencies, scale = compute(config, "cpu")
  ours = rope.read(parameters, 64, 10000.0, 2048, "config")
  np.testing.assert_allclose(ours.frequencies, frequencies.numpy(), rtol=2e-6)
  assert ours.scale == pytest.approx(scale, rel=1e-6)


def test_dynamic_frequencies_hold_for_the_original_context_only():
  parameters = {"rope_type": "dynamic", "factor": 2.0}
  assert rope.read(parameters, 64, 1e4, 2048, "config").context == 2048


@pytest.mark.parametrize(
  ("parameters", "message"),
  [
    (
      {"rope_type": "longrope"},
      "config: rope_type 'longrope' is not one of def",
    ),
    ({"type": "linear"}, "config: rope_type 'linear' requires factor"),
    ({"partial_rotary_factor": 0.5}, "config: partial_rotary_factor is not supported"),
  ],
)
def test_what_cannot_be_read_is_refused(parameters, message):
  with pytest.raises(errors.UserError, match=message):
    rope.read(parameters, 64, 1e4, 2048, "config")
