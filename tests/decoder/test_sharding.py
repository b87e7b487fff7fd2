"""How a mesh splits the parameters, and which meshes are refused."""

import jax
import numpy as np
import pytest
import transformers

from vpo_jax import errors
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import sharding, table

CONFIG = decoder_config.parse(
  transformers.LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
  ).to_dict()
)


def mesh(data, fsdp, tensor):
  return sharding.make_mesh({"data": data, "fsdp": fsdp, "tensor": tensor})


def test_each_device_holds_its_share_of_every_matrix():
  params = table.init(jax.random.key(0), CONFIG)
  placed = jax.device_put(params, sharding.params(CONFIG, mesh(2, 2, 2)))
  for original, leaf in zip(
    jax.tree.leaves(params), jax.tree.leaves(placed), strict=True
  ):
    parts = 1 if leaf.size < 100 else 4  # norms are replicated
    assert all(s.data.size == leaf.size // parts for s in leaf.addressable_shards)
    np.testing.assert_array_equal(sharding.to_host(leaf), original)


def test_minus_one_takes_the_remaining_devices():
  assert mesh(2, -1, 1).shape["fsdp"] == jax.device_count() // 2
  assert sharding.groups(mesh(2, -1, 1)) == jax.device_count()


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    ((0, 1, 1), "mesh.data=0"),
    ((-1, -1, 1), "only one axis can be -1"),
    ((3, -1, 1), "3 does not divide 8"),
    ((4, 4, 1), "16 devices"),
    ((2, 1, 4), "does not divide the model's kv_heads"),
  ],
)
def test_a_mesh_that_does_not_fit_is_refused(sizes, message):
  with pytest.raises(errors.UserError, match=message):
    sharding.params(CONFIG, mesh(*sizes))
