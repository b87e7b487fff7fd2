"""Attention along the paths of a packed forest, forward and backward, on TPUs.

Neither scores nor masks are written to memory (flash attention, arXiv:2205.14135), and
pairs of blocks without a common path are skipped, so that the work of a row grows with
its trees and not with the square of its length.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vpo_jax.decoder import remat
from vpo_jax.decoder.tpu import grid, kernels
from vpo_jax.decoder.tpu.layout import Layout


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def attention(
  q_BTNH: Float[Array, "B T N H"],
  k_BSKH: Float[Array, "B S K H"],
  v_BSKH: Float[Array, "B S K H"],
  layout: Layout,
  settings: grid.Settings,
) -> Float[Array, "B T N H"]:
  """Grouped-query attention along the paths of `layout`; see `attention.attention`."""
  return _forward(q_BTNH, k_BSKH, v_BSKH, layout, settings)[0]


def _forward(q_BTNH, k_BSKH, v_BSKH, layout, settings):
  dtype, T = jnp.dtype(settings.dtype), q_BTNH.shape[1]
  q_BNTH = _heads_first(q_BTNH, layout.query_BT3.shape[1], dtype)
  k_BKSH, v_BKSH = (
    _heads_first(x, layout.key_B2S.shape[2], dtype) for x in (k_BSKH, v_BSKH)
  )
  out_BNTH, normaliser_BNT1 = kernels.forward(q_BNTH, k_BKSH, v_BKSH, layout, settings)
  # Saved, so that recomputing a layer does not run the kernel again. The last axis of 1
  # is dropped because a TPU would pad it to 128.
  out_BNTH = remat.save_residual(out_BNTH)
  normaliser_BNT = remat.save_residual(normaliser_BNT1[..., 0])
  saved = (q_BNTH, k_BKSH, v_BKSH, layout, out_BNTH, normaliser_BNT)
  return jnp.swapaxes(out_BNTH, 1, 2)[:, :T], (*saved, k_BSKH.shape[1])


def _backward(settings, saved, dout_BTNH):
  q_BNTH, k_BKSH, v_BKSH, layout, out_BNTH, normaliser_BNT, S = saved
  T = dout_BTNH.shape[1]
  dout_BNTH = _heads_first(dout_BTNH, q_BNTH.shape[2], jnp.float32)
  # Sum over keys of weight * gradient of weight (arXiv:2205.14135, appendix B.2).
  inner_BNT1 = jnp.sum(out_BNTH * dout_BNTH, axis=-1, keepdims=True)
  dout_BNTH = dout_BNTH.astype(q_BNTH.dtype)
  arrays = (q_BNTH, k_BKSH, v_BKSH, dout_BNTH, normaliser_BNT[..., None], inner_BNT1)
  dq_BNTH = kernels.dq(arrays, layout, settings)
  dk_BKSH, dv_BKSH = kernels.dkv(arrays, layout, settings)

  def tokens_first(x: Array, length: int) -> Array:
    return jnp.swapaxes(x, 1, 2)[:, :length]

  return (
    tokens_first(dq_BNTH, T),
    tokens_first(dk_BKSH, S),
    tokens_first(dv_BKSH, S),
    None,
  )


attention.defvjp(_forward, _backward)


def _heads_first(x: Array, length: int, dtype: Any) -> Array:
  """[B, T, N, H] as [B, N, length, H], padded with zeros."""
  x = jnp.swapaxes(x.astype(dtype), 1, 2)
  return jnp.pad(x, ((0, 0), (0, 0), (0, length - x.shape[2]), (0, 0)))
