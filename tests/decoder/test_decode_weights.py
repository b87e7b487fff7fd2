"""Weights for decoding are those of training, in another layout."""

import jax
import numpy as np
import pytest

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import decode_weights, model, sharding, weights


@pytest.mark.parametrize("axes", [(1, 1, 1), (2, 2, 2)])
def test_they_equal_those_of_training_on_every_mesh(tiny_model, axes):
  config = decoder_config.read(tiny_model)
  mesh = jax.make_mesh(axes, ("data", "fsdp", "tensor"))
  stacked = weights.load(tiny_model, config, sharding.params(config, mesh))
  loaded = decode_weights.load(tiny_model, config, mesh, "float32")
  assert len(loaded["layers"]) == config.layers
  for layer, found in enumerate(loaded["layers"]):
    assert found.keys() == stacked["layers"].keys()
    for name, value in found.items():
      expected = stacked["layers"][name][layer]
      if isinstance(value, decode_weights.Transposed):
        value, expected = value.w, expected.T
        assert value.sharding.is_equivalent_to(expected.sharding, value.ndim)
      np.testing.assert_array_equal(value, expected)
  np.testing.assert_array_equal(loaded["head"].w, model.head(stacked))
