"""The blockwise head equals log-softmax, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vpo_jax.decoder import head


@pytest.mark.parametrize("blocks", [1, 4, 64])  # 53 words: padding of 0, 3 and 11
def test_equals_log_softmax_and_its_gradient(blocks):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 24, 16)), jnp.float32)
  w = jnp.asarray(rng.normal(size=(53, 16)), jnp.float32)
  targets = jnp.asarray(rng.integers(0, 53, (2, 24)))
  weights = rng.normal(size=(2, 24)).astype(np.float32)

  def in_blocks(x, w):
    return jnp.sum(weights * head.logps(x, w, targets, blocks, "float32"))

  def plain(x, w):
    logits = jnp.einsum("gpd,vd->gpv", x, w, precision="highest")  # also on a GPU
    logps = jax.nn.log_softmax(logits)
    return jnp.sum(weights * jnp.take_along_axis(logps, targets[..., None], -1)[..., 0])

  ours, grads = jax.value_and_grad(in_blocks, (0, 1))(x, w)
  theirs, their_grads = jax.value_and_grad(plain, (0, 1))(x, w)
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  for a, b in zip(grads, their_grads, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def backward_bytes(positions, blocks, vocab=128256, d_model=8):
  """Size of the backward pass's temporary buffers, for Llama 3's vocabulary."""
  x = jax.ShapeDtypeStruct((1, positions, d_model), jnp.float32)
  w = jax.ShapeDtypeStruct((vocab, d_model), jnp.float32)
  targets = jax.ShapeDtypeStruct((1, positions), jnp.int32)

  def loss(x, w, targets):
    return jnp.sum(head.logps(x, w, targets, blocks, "float32"))

  compiled = jax.jit(jax.grad(loss, (0, 1))).lower(x, w, targets).compile()
  analysis = compiled.memory_analysis()
  assert analysis is not None
  return analysis.temp_size_in_bytes


def test_memory_does_not_grow_with_the_rows():
  """One block of logits is in memory at a time, whatever the number of rows."""
  row, vocab = 2048, 128256
  logits = 4 * vocab  # bytes per position
  one, eight = (
    backward_bytes(rows * row, head.blocks(rows * row, vocab)) for rows in (1, 8)
  )
  assert eight - one < row * logits / 100
  assert one < row * logits / 20
  assert backward_bytes(row, 1) > row * logits, "a single block has all logits"


@pytest.mark.parametrize("positions", [1, 1104, 16384])
@pytest.mark.parametrize(("devices", "most"), [(1, 2**22), (8, 2**26)])
def test_number_of_blocks(positions, devices, most):
  blocks = head.blocks(positions, 49152, devices)
  assert positions * 49152 / blocks <= most
  assert blocks == 1 or positions * 49152 / (blocks / 2) > most
  assert 49152 % blocks == 0
