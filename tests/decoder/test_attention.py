"""All implementations of attention give the same values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vpo_jax.decoder import attention, cpu_attention


def causal_mask(T, S):
  """The queries are the last T of S positions."""
  return jnp.broadcast_to(jnp.tri(T, S, S - T, dtype=bool)[None], (2, T, S))


def random_arrays(T, S):
  """q, k, v with 4 query heads over 2 key-value heads, a mask, and a cotangent."""
  keys = jax.random.split(jax.random.key(0), 4)
  q = jax.random.normal(keys[0], (2, T, 4, 16))
  k, v = (jax.random.normal(key, (2, S, 2, 16)) for key in keys[1:3])
  return (q, k, v), causal_mask(T, S), jax.random.normal(keys[3], q.shape)


@pytest.mark.parametrize(("T", "S"), [(7, 7), (8, 13), (5, 12), (6, 6)])
def test_fused_equals_plain(T, S):
  arrays, mask, weight = random_arrays(T, S)

  def plain(*arrays):
    return jnp.sum(weight * attention.plain(*arrays, mask, jnp.dtype("float32")))

  def fused(*arrays):
    return jnp.sum(weight * attention.fused(*arrays, mask, "xla"))

  theirs = jax.jit(jax.value_and_grad(plain, (0, 1, 2)))(*arrays)
  with jax.numpy_dtype_promotion("standard"):  # inside JAX's own function
    ours = jax.jit(jax.value_and_grad(fused, (0, 1, 2)))(*arrays)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    # bfloat16 has 8 bits of precision.
    assert np.linalg.norm(a - b) < 2e-2 * np.linalg.norm(b) + 2e-2


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("bfloat16", 1e-2)])
@pytest.mark.parametrize(("T", "S"), [(7, 7), (8, 13)])
def test_blockwise_equals_plain(T, S, dtype, error):
  arrays, mask, weight = random_arrays(T, S)

  @functools.partial(jax.jit, static_argnums=(0, 1))
  def values(attend, dtype):
    out, backward = jax.vjp(lambda *a: attend(*a, mask, jnp.dtype(dtype)), *arrays)
    return out, *backward(weight)

  exact = values(attention.plain, "float32")
  ours = values(cpu_attention.attention, dtype)
  for a, b in zip(ours, exact, strict=True):
    assert np.linalg.norm(a - b) < error * np.linalg.norm(b)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="requires a GPU")
@pytest.mark.parametrize("H", [64, 128])
def test_attention_on_a_gpu_equals_plain_attention(H):
  """cuDNN's kernel, forward and backward, for odd lengths as stems have them."""
  keys = jax.random.split(jax.random.key(0), 4)
  q = jax.random.normal(keys[0], (2, 7, 4, H))
  k, v = (jax.random.normal(key, (2, 13, 2, H)) for key in keys[1:3])
  weight, mask = jax.random.normal(keys[3], q.shape), causal_mask(7, 13)

  def values(attend, dtype):
    out, backward = jax.vjp(lambda *a: attend(*a, mask, jnp.dtype(dtype)), q, k, v)
    return out, *backward(weight)

  with jax.numpy_dtype_promotion("standard"):  # inside JAX's own function
    ours = values(attention.attention, "bfloat16")
  for a, b in zip(ours, values(attention.plain, "float32"), strict=True):
    assert np.linalg.norm(a - b) < 2e-2 * np.linalg.norm(b)
