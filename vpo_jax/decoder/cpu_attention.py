"""Attention on a CPU, block by block: one key-value head of one row at a time.

The scores of a block stay in the CPU's cache and the backward pass recomputes them, so
they are never written to memory. This halves the time of plain attention on two cores
of a Zen 5 (docs/performance.md). The backward pass works on transposed scores, so that
all five of its products have a row-major left operand (`cpu.transpose_by_rows`).

Shape letters of the package, and b = B * K blocks, M = N / K query heads of a block,
Q = M * T queries of a block.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vpo_jax.decoder import cpu, matmul, remat
from vpo_jax.decoder.soft_cap import slope, soft_cap


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def attention(
  q_BTNH: Float[Array, "B T N H"],
  k_BSKH: Float[Array, "B S K H"],
  v_BSKH: Float[Array, "B S K H"],
  mask_BTS: Bool[Array, "B T S"],
  dtype: jnp.dtype,
  cap: float | None = None,
) -> Float[Array, "B T N H"]:
  """Grouped-query attention under a mask; see `attention.attention`."""
  return _forward(q_BTNH, k_BSKH, v_BSKH, mask_BTS, dtype, cap)[0]


def _forward(q_BTNH, k_BSKH, v_BSKH, mask_BTS, dtype, cap):
  K = k_BSKH.shape[2]
  # Rounded once, here: the backward pass reuses the result.
  q_bQH = remat.save_residual(_query_blocks(q_BTNH, K).astype(dtype))
  k_bSH, v_bSH = (
    remat.save_residual(_key_blocks(x).astype(dtype)) for x in (k_BSKH, v_BSKH)
  )

  def block(index):
    scores_QS = matmul.einsum("qh,sh->qs", q_bQH[index], k_bSH[index])
    scores_QS = _masked(mask_BTS[index // K], soft_cap(scores_QS, cap))
    max_Q1 = jnp.max(scores_QS, axis=1, keepdims=True)
    weights_QS = jnp.exp(scores_QS - max_Q1)
    sum_Q1 = jnp.sum(weights_QS, axis=1, keepdims=True)
    out_QH = matmul.einsum("qs,sh->qh", weights_QS.astype(dtype), v_bSH[index]) / sum_Q1
    return out_QH, (max_Q1 + jnp.log(sum_Q1))[:, 0]

  out_bQH, normaliser_bQ = _map(block, len(q_bQH))
  out_BTNH = remat.save_residual(_from_query_blocks(out_bQH, q_BTNH.shape))
  normaliser_bQ = remat.save_residual(normaliser_bQ)
  return out_BTNH, (q_bQH, k_bSH, v_bSH, mask_BTS, out_BTNH, normaliser_bQ)


def _backward(dtype, cap, saved, dout_BTNH):
  q_bQH, k_bSH, v_bSH, mask_BTS, out_BTNH, normaliser_bQ = saved
  K = len(q_bQH) // len(mask_BTS)
  mask_BST = jnp.swapaxes(mask_BTS, 1, 2)
  # Sum over keys of weight * gradient of weight (arXiv:2205.14135, appendix B.2).
  inner_BTN = matmul.einsum("btnh,btnh->btn", out_BTNH, dout_BTNH)
  inner_bQ = _query_blocks(inner_BTN[..., None], K)[..., 0]
  dout_bQH = _query_blocks(dout_BTNH, K).astype(dtype)

  def block(index):
    q_QH, k_SH, dout_QH = q_bQH[index], k_bSH[index], dout_bQH[index]
    scores_SQ = soft_cap(matmul.einsum("sh,qh->sq", k_SH, q_QH), cap)
    weights_SQ = _weights(mask_BST[index // K], scores_SQ, normaliser_bQ[index])
    dv_SH = matmul.einsum("sq,qh->sh", weights_SQ.astype(dtype), dout_QH)
    dweights_SQ = matmul.einsum("sh,qh->sq", v_bSH[index], dout_QH)
    dscores_SQ = weights_SQ * (dweights_SQ - inner_bQ[index][None])
    if cap is not None:
      dscores_SQ = dscores_SQ * slope(scores_SQ, cap)
    dscores_SQ = dscores_SQ.astype(dtype)
    dk_SH = matmul.einsum("sq,qh->sh", dscores_SQ, q_QH)
    dq_HQ = matmul.einsum("hs,sq->hq", cpu.transpose_by_rows(k_SH), dscores_SQ)
    # Without the barrier XLA folds the transpose into the product.
    return jax.lax.optimization_barrier(dq_HQ).T, dk_SH, dv_SH

  dq_bQH, dk_bSH, dv_bSH = _map(block, len(q_bQH))
  dq_BTNH = _from_query_blocks(dq_bQH, dout_BTNH.shape)
  return dq_BTNH, _from_key_blocks(dk_bSH, K), _from_key_blocks(dv_bSH, K), None


attention.defvjp(_forward, _backward)


def _map(block, count):
  """`jax.lax.map` over block indices, two at a time: XLA runs each on its own core.

  Two cores that split every operation of a single block wait for each other, and more
  than two blocks do not fit the cache.
  """

  def step(_, index):
    return None, block(index)

  return jax.lax.scan(step, None, jnp.arange(count), unroll=2)[1]


def _masked(mask_TS, scores_QS):
  T, S = mask_TS.shape
  scores_MTS = scores_QS.reshape(-1, T, S)
  return jnp.where(mask_TS[None], scores_MTS, -1e30).reshape(scores_QS.shape)


def _weights(mask_ST, scores_SQ, normaliser_Q):
  S, T = mask_ST.shape
  # In three dimensions: in two, XLA divides to find the mask entry of each score.
  scores_SMT, normaliser_MT = scores_SQ.reshape(S, -1, T), normaliser_Q.reshape(-1, T)
  scores_SMT = jnp.where(mask_ST[:, None], scores_SMT, -1e30)
  return jnp.exp(scores_SMT - normaliser_MT[None]).reshape(scores_SQ.shape)


def _query_blocks(x_BTNH, K):
  """[B, T, N, H] to [b, Q, H]."""
  B, T, N, H = x_BTNH.shape
  x = x_BTNH.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4)
  return x.reshape(B * K, -1, H)


def _from_query_blocks(x_bQH, shape):
  B, T, _, H = shape
  x = x_bQH.reshape(B, -1, x_bQH.shape[1] // T, T, H).transpose(0, 3, 1, 2, 4)
  return x.reshape(shape)


def _key_blocks(x_BSKH):
  """[B, S, K, H] to [b, S, H]."""
  B, S, K, H = x_BSKH.shape
  return x_BSKH.transpose(0, 2, 1, 3).reshape(B * K, S, H)


def _from_key_blocks(x_bSH, K):
  b, S, H = x_bSH.shape
  return x_bSH.reshape(b // K, K, S, H).transpose(0, 2, 1, 3)
