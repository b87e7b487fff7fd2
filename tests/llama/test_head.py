"""The chunked head is log-softmax, forward and backward."""

import types

import jax
import jax.numpy as jnp
import numpy as np

from vpo_jax.llama import head


def test_equals_log_softmax_and_its_gradient():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 24, 16)).astype(np.float32)
  w = rng.normal(size=(53, 16)).astype(np.float32)
  targets = rng.integers(0, 53, (2, 24))
  weights = rng.normal(size=(2, 24)).astype(np.float32)

  def chunked(x, w):
    return jnp.sum(weights * head.logps(x, w, targets, 8, "float32"))

  def plain(x, w):
    logits = jnp.einsum("gpd,vd->gpv", x, w, precision="highest")  # of a GPU, too
    logps = jax.nn.log_softmax(logits)
    return jnp.sum(weights * jnp.take_along_axis(logps, targets[..., None], -1)[..., 0])

  ours, grads = jax.value_and_grad(chunked, (0, 1))(x, w)
  theirs, their_grads = jax.value_and_grad(plain, (0, 1))(x, w)
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  for a, b in zip(grads, their_grads, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def backward_bytes(positions, chunk, vocab=128256, d_model=8):
  """Temporaries of the compiled backward pass, for Llama-3's vocabulary."""
  x = jax.ShapeDtypeStruct((1, positions, d_model), jnp.float32)
  w = jax.ShapeDtypeStruct((vocab, d_model), jnp.float32)
  targets = jax.ShapeDtypeStruct((1, positions), jnp.int32)

  def loss(x, w, targets):
    return jnp.sum(head.logps(x, w, targets, chunk, "float32"))

  compiled = jax.jit(jax.grad(loss, (0, 1))).lower(x, w, targets).compile()
  analysis = compiled.memory_analysis()
  assert analysis is not None
  return analysis.temp_size_in_bytes


def test_memory_does_not_grow_with_the_rows():
  """Rows of 2,048 tokens: one chunk of logits lives, whatever the number of rows."""
  row, chunk, vocab = 2048, 512, 128256
  logits = 4 * vocab
  one, eight = (backward_bytes(rows * row, chunk) for rows in (1, 8))
  assert eight - one < row * logits / 100
  assert one < 3.5 * chunk * logits
  assert backward_bytes(row, row) > row * logits, "in one chunk, all logits live"


def test_chunks_are_larger_on_one_gpu():
  cpu, gpu = (types.SimpleNamespace(platform=name) for name in ("cpu", "gpu"))
  another = types.SimpleNamespace(platform="gpu")
  for devices, size in (([gpu], 2048), ([gpu, another], 512), ([cpu], 512)):
    rows = types.SimpleNamespace(device_set=devices)
    assert head.chunk_size(rows) == size  # pyright: ignore[reportArgumentType]
