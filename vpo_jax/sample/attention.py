"""Attention of a decode or a prefill over the shared stem and a slot's own cache."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vpo_jax.decoder import matmul
from vpo_jax.sample import cache


def over_stem_and_slot(
  q_BTNH: Float[Array, "B T N H"],
  own: cache.Layer,
  own_mask_BTS: Bool[Array, "B T S"],
  stem: cache.Layer | None,
  stem_mask_B: Bool[Array, " B"],
) -> Float[Array, "B T N H"]:
  """Attention to the shared stem and to a slot's own keys, under one softmax.

  Products have operands in the type of the keys and values, and float32 results.

  Args:
    own: keys [B, K, H, S] and values [B, K, S, H].
    own_mask_BTS: which of them a query sees.
    stem: keys [K, H, S] and values [K, S, H], read once for all slots.
    stem_mask_B: whether the slot's prompt begins with the stem.
  """
  B, T, N, H = q_BTNH.shape
  K = own["v"].shape[1]
  q = (q_BTNH * H**-0.5).reshape(B, T, K, N // K, H)
  q_BKRH = jnp.swapaxes(q, 1, 2).reshape(B, K, -1, H)  # R: a head's queries
  mask = jnp.repeat(own_mask_BTS, N // K, axis=1)[:, None]
  scores = jnp.where(mask, _per_slot(q_BKRH, own["k"]), -1e30)
  top = jnp.max(scores, axis=-1, keepdims=True)
  if stem is None:
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    mixed = _per_slot(weights, own["v"])
  else:
    # In two parts under one softmax: joining them would copy every score twice.
    shared = _over_stem(q_BKRH, stem["k"])
    shared = jnp.where(stem_mask_B[:, None, None, None], shared, -1e30)
    top = jnp.maximum(top, jnp.max(shared, axis=-1, keepdims=True))
    weights, shared = jnp.exp(scores - top), jnp.exp(shared - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    total += jnp.sum(shared, axis=-1, keepdims=True)
    mixed = _per_slot(weights, own["v"])
    mixed += _over_stem(shared, stem["v"])
  out = (mixed / total).reshape(B, K, T, N // K, H)
  return jnp.swapaxes(out, 1, 2).reshape(B, T, N, H)


def _per_slot(a_BKRX, b_BKXY):
  """Each slot's own: [R, X] @ [X, Y]."""
  a = a_BKRX.astype(b_BKXY.dtype)
  return matmul.einsum("bkrx,bkxy->bkry", a, b_BKXY)


def _over_stem(a_BKRX, b_KXY):
  """The stem's: [B * R, X] @ [X, Y] a head, one product for all slots."""
  B, K, R, _ = a_BKRX.shape
  # Barriers keep the product in this shape; see `decode_weights.Transposed`.
  a = jnp.swapaxes(a_BKRX.astype(b_KXY.dtype), 0, 1).reshape(K, B * R, -1)
  a = jax.lax.optimization_barrier(a)
  out = matmul.einsum("krx,kxy->kry", a, b_KXY)
  out = jax.lax.optimization_barrier(out).reshape(K, B, R, -1)
  return jnp.swapaxes(out, 0, 1)
