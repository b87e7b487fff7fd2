"""The chunked head is log-softmax, forward and backward."""

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
    logps = jax.nn.log_softmax(jnp.einsum("gpd,vd->gpv", x, w))
    return jnp.sum(weights * jnp.take_along_axis(logps, targets[..., None], -1)[..., 0])

  ours, grads = jax.value_and_grad(chunked, (0, 1))(x, w)
  theirs, their_grads = jax.value_and_grad(plain, (0, 1))(x, w)
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  for a, b in zip(grads, their_grads, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_only_one_chunk_of_logits_is_alive():
  """Temporaries of the backward pass do not grow with the number of chunks."""
  vocab, d_model, chunk = 5000, 8, 16

  def memory(chunks):
    x = jax.ShapeDtypeStruct((1, chunks * chunk, d_model), jnp.float32)
    w = jax.ShapeDtypeStruct((vocab, d_model), jnp.float32)
    targets = jax.ShapeDtypeStruct((1, chunks * chunk), jnp.int32)

    def loss(x, w, targets):
      return jnp.sum(head.logps(x, w, targets, chunk, "float32"))

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(x, w, targets).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes

  one_chunk_of_logits = chunk * vocab * 4
  assert memory(16) - memory(2) < one_chunk_of_logits
