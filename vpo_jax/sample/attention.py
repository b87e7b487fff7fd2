"""Attention of prefill and decoding, over the shared stem and a slot's own cache."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vpo_jax.decoder import matmul
from vpo_jax.decoder.soft_cap import soft_cap
from vpo_jax.sample import cache


def over_stem_and_slot(
  q_BTNH: Float[Array, "B T N H"],
  own: cache.Layer,
  own_mask_BTS: Bool[Array, "B T S"],
  stem: cache.Layer | None,
  stem_mask: Bool[Array, "#B #T #Z"],
  cap: float | None = None,
) -> Float[Array, "B T N H"]:
  """Attention over the stem's and a slot's own keys, under one softmax.

  Operands of the matrix products have the type of the keys and values; results are
  float32.

  Args:
    q_BTNH: queries, scaled.
    own: keys [B, K, H, S] and values [B, K, S, H] of each slot.
    own_mask_BTS: True where a query may attend to a slot's key.
    stem: keys [K, H, S] and values [K, S, H], read once for all slots; or None.
    stem_mask: True where a query may attend to a key of the stem: [B, T, its length],
      or 1 for an axis along which it is the same.
    cap: bound of the scores; see `soft_cap`.
  """
  B, T, N, H = q_BTNH.shape
  K = own["v"].shape[1]
  q = q_BTNH.reshape(B, T, K, N // K, H)
  q_BKQH = jnp.swapaxes(q, 1, 2).reshape(B, K, -1, H)
  mask = jnp.repeat(own_mask_BTS, N // K, axis=1)[:, None]
  scores = soft_cap(_per_slot(q_BKQH, own["k"]), cap)
  scores = jnp.where(mask, scores, -1e30)
  max_score = jnp.max(scores, axis=-1, keepdims=True)
  if stem is None:
    weights = jnp.exp(scores - max_score)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    mixed = _per_slot(weights, own["v"])
  else:
    # The two parts are not concatenated, which would copy every score twice.
    shared = soft_cap(_over_stem(q_BKQH, stem["k"]), cap)
    if stem_mask.shape[1] > 1:
      stem_mask = jnp.repeat(stem_mask, N // K, axis=1)
    shared = jnp.where(stem_mask[:, None], shared, -1e30)
    max_score = jnp.maximum(max_score, jnp.max(shared, axis=-1, keepdims=True))
    weights, shared = jnp.exp(scores - max_score), jnp.exp(shared - max_score)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    total += jnp.sum(shared, axis=-1, keepdims=True)
    mixed = _per_slot(weights, own["v"])
    mixed += _over_stem(shared, stem["v"])
  out = (mixed / total).reshape(B, K, T, N // K, H)
  return jnp.swapaxes(out, 1, 2).reshape(B, T, N, H)


def _per_slot(a_BKQX, b_BKXY):
  """[Q, X] @ [X, Y] for each slot and key-value head."""
  a = a_BKQX.astype(b_BKXY.dtype)
  return matmul.einsum("bkqx,bkxy->bkqy", a, b_BKXY)


def _over_stem(a_BKQX, b_KXY):
  """[B * Q, X] @ [X, Y] for each key-value head: one product for all slots."""
  B, K, Q, _ = a_BKQX.shape
  # The barriers keep XLA from folding the transposes into the product.
  a = jnp.swapaxes(a_BKQX.astype(b_KXY.dtype), 0, 1).reshape(K, B * Q, -1)
  a = jax.lax.optimization_barrier(a)
  out = matmul.einsum("kqx,kxy->kqy", a, b_KXY)
  out = jax.lax.optimization_barrier(out).reshape(K, B, Q, -1)
  return jnp.swapaxes(out, 0, 1)
