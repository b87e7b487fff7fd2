"""The ways of computing attention give the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vpo_jax.decoder import attention, cpu_attention


def numbers(T, S):
  """A causal mask over the last T of S keys, for 4 heads over 2."""
  keys = jax.random.split(jax.random.key(0), 4)
  q = jax.random.normal(keys[0], (2, T, 4, 16))
  k, v = (jax.random.normal(key, (2, S, 2, 16)) for key in keys[1:3])
  mask = jnp.broadcast_to(jnp.tri(T, S, S - T, dtype=bool)[None], (2, T, S))
  return (q, k, v), mask, jax.random.normal(keys[3], q.shape)


@pytest.mark.parametrize(("T", "S"), [(7, 7), (8, 13), (5, 12), (6, 6)])
def test_the_fused_form_is_the_plain_one(T, S):
  arrays, mask, weight = numbers(T, S)

  def plain(*arrays):
    return jnp.sum(weight * attention.plain(*arrays, mask, jnp.dtype("float32")))

  def fused(*arrays):
    return jnp.sum(weight * attention.fused(*arrays, mask, "xla"))

  theirs = jax.value_and_grad(plain, (0, 1, 2))(*arrays)
  with jax.numpy_dtype_promotion("standard"):  # inside JAX's own function
    ours = jax.value_and_grad(fused, (0, 1, 2))(*arrays)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    # bfloat16 has 8 bits.
    assert np.linalg.norm(a - b) < 2e-2 * np.linalg.norm(b) + 2e-2


@pytest.mark.parametrize(("dtype", "off"), [("float32", 1e-5), ("bfloat16", 1e-2)])
@pytest.mark.parametrize(("T", "S"), [(7, 7), (8, 13)])
def test_block_by_block_is_the_plain_one(T, S, dtype, off):
  arrays, mask, weight = numbers(T, S)

  def numbers_of(attend, dtype):
    out, back = jax.vjp(lambda *a: attend(*a, mask, jnp.dtype(dtype)), *arrays)
    return out, *back(weight)

  exact = numbers_of(attention.plain, "float32")
  ours = numbers_of(cpu_attention.attention, dtype)
  for a, b in zip(ours, exact, strict=True):
    assert np.linalg.norm(a - b) < off * np.linalg.norm(b)


@pytest.mark.parametrize("H", [64, 128])
def test_on_a_gpu_it_is_cudnns_kernel_forward_and_backward(monkeypatch, H):
  """Lowered for CUDA, which needs no GPU; of odd lengths, as stems have them."""
  from jax._src.cudnn import fused_attention_stablehlo as cudnn

  monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
  monkeypatch.setattr(cudnn, "check_compute_capability", lambda _: True)
  monkeypatch.setattr(attention.jax, "default_backend", lambda: "gpu")

  def loss(q, k, v, mask):
    return jnp.sum(attention.attention(q, k, v, mask, jnp.dtype("bfloat16")))

  q, k, v = (
    jax.ShapeDtypeStruct((2, n, h, H), "float32") for n, h in [(7, 4), (13, 2), (13, 2)]
  )
  mask = jax.ShapeDtypeStruct((2, 7, 13), "bool")
  kernels = [f"__cudnn$fmhaScaleBiasSoftmax{way}" for way in ("", "Backward")]
  with jax.numpy_dtype_promotion("standard"):  # inside JAX's own function
    text = jax.export.export(
      jax.jit(jax.grad(loss, (0, 1, 2))),
      platforms=["cuda"],
      disabled_checks=[
        jax.export.DisabledSafetyCheck.custom_call(name) for name in kernels
      ],
    )(q, k, v, mask).mlir_module()
  assert all(f"@{name}(" in text for name in kernels)
