"""The Pallas kernels of attention along paths.

A program computes one block of queries against one block of keys, for all query heads
of a key-value head; softmax is accumulated over the blocks of keys.

Shape letters of the package, and M = N / K query heads of a key-value head, t and s the
tokens of a block. Heads stand before tokens.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from vpo_jax.decoder import paths as paths_lib
from vpo_jax.decoder.soft_cap import slope, soft_cap
from vpo_jax.decoder.tpu import grid
from vpo_jax.decoder.tpu.layout import Layout

_MASKED = -1e30  # score of a key that is not attended to; finite, so that exp is 0


def forward(
  q_BNTH: Float[Array, "B N T H"],
  k_BKSH: Float[Array, "B K S H"],
  v_BKSH: Float[Array, "B K S H"],
  layout: Layout,
  settings: grid.Settings,
) -> tuple[Float[Array, "B N T H"], Float[Array, "B N T 1"]]:
  """The attention output, and the log of each query's sum of exponentials."""
  (B, N, T, H), M = q_BNTH.shape, q_BNTH.shape[1] // k_BKSH.shape[1]
  return grid.run(
    _forward_kernel,
    grid.Order.of(layout, by_query=True),
    (q_BNTH, k_BKSH, v_BKSH),
    layout,
    ((B, N, T, H), (B, N, T, 1)),
    ((M, 1), (M, 1), (M, H)),
    2,
    settings,
  )


def dq(
  arrays: tuple[Array, ...], layout: Layout, settings: grid.Settings
) -> Float[Array, "B N T H"]:
  """The gradient of the queries.

  Args:
    arrays: queries, keys, values, the output's gradient, and for each query the log of
      its sum of exponentials and the sum over keys of weight * gradient of weight.
  """
  q_BNTH, k_BKSH = arrays[:2]
  M, H = q_BNTH.shape[1] // k_BKSH.shape[1], q_BNTH.shape[3]
  order = grid.Order.of(layout, by_query=True)
  results = (q_BNTH.shape,)
  return grid.run(_dq_kernel, order, arrays, layout, results, ((M, H),), 3, settings)[0]


def dkv(
  arrays: tuple[Array, ...], layout: Layout, settings: grid.Settings
) -> tuple[Float[Array, "B K S H"], Float[Array, "B K S H"]]:
  """The gradients of keys and values; arguments as in `dq`."""
  k_BKSH = arrays[1]
  order, results = grid.Order.of(layout, by_query=False), (k_BKSH.shape, k_BKSH.shape)
  scratch = ((1, k_BKSH.shape[3]),) * 2
  return grid.run(_dkv_kernel, order, arrays, layout, results, scratch, 4, settings)


def _product(a: Array, b: Array, axes: tuple[int, int]) -> Array:
  """The product of two matrices over an axis of each, with a float32 result."""
  precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
  return jax.lax.dot_general(
    a,
    b,
    (((axes[0],), (axes[1],)), ((), ())),
    precision=precision,
    preferred_element_type=jnp.float32,
  )


def _mask(query_ref, key_ref, window_ref) -> Array:
  """Which keys of a block the queries of a block attend to, [t, s]."""
  query_t3, key_2s = query_ref[0], key_ref[0]
  key_1s = key_2s[0:1]
  distance = query_t3[:, 2:3] - key_2s[1:2]
  on_path = (
    (key_1s == paths_lib.STEM)
    | (key_1s == query_t3[:, 0:1])
    | (key_1s == query_t3[:, 1:2])
  )
  return on_path & (distance >= 0) & (distance < window_ref[0])


def _forward_kernel(
  visited_ref,
  fetched_ref,
  window_ref,
  q_ref,
  k_ref,
  v_ref,
  query_ref,
  key_ref,
  out_ref,
  normaliser_ref,
  max_ref,
  sum_ref,
  total_ref,
  *,
  cap,
):
  step = pl.program_id(3)  # block of keys

  @pl.when(step == 0)
  def _():
    max_ref[...] = jnp.full_like(max_ref, _MASKED)
    sum_ref[...] = jnp.zeros_like(sum_ref)
    total_ref[...] = jnp.zeros_like(total_ref)

  @pl.when(_is_visited(visited_ref))
  def _():
    mask_ts, k_sH, v_sH = (
      _mask(query_ref, key_ref, window_ref),
      k_ref[0, 0],
      v_ref[0, 0],
    )
    for m in range(q_ref.shape[1]):
      scores_ts = soft_cap(_product(q_ref[0, m], k_sH, (1, 1)), cap)
      scores_ts = jnp.where(mask_ts, scores_ts, _MASKED)
      before_t1 = max_ref[m]
      after_t1 = jnp.maximum(before_t1, jnp.max(scores_ts, axis=1, keepdims=True))
      weights_ts = jnp.where(mask_ts, jnp.exp(scores_ts - after_t1), 0.0)
      shrink_t1 = jnp.exp(before_t1 - after_t1)
      max_ref[m] = after_t1
      sum_ref[m] = shrink_t1 * sum_ref[m] + jnp.sum(weights_ts, axis=1, keepdims=True)
      product_tH = _product(weights_ts.astype(v_sH.dtype), v_sH, (1, 0))
      total_ref[m] = shrink_t1 * total_ref[m] + product_tH

  @pl.when(step == pl.num_programs(3) - 1)
  def _():
    sum_Mt1 = jnp.maximum(sum_ref[...], jnp.finfo(jnp.float32).tiny)
    out_ref[0] = total_ref[...] / sum_Mt1
    normaliser_ref[0] = max_ref[...] + jnp.log(sum_Mt1)


def _dq_kernel(
  visited_ref,
  fetched_ref,
  window_ref,
  q_ref,
  k_ref,
  v_ref,
  dout_ref,
  normaliser_ref,
  inner_ref,
  query_ref,
  key_ref,
  dq_ref,
  total_ref,
  *,
  cap,
):
  step = pl.program_id(3)  # block of keys

  @pl.when(step == 0)
  def _():
    total_ref[...] = jnp.zeros_like(total_ref)

  @pl.when(_is_visited(visited_ref))
  def _():
    mask_ts, k_sH, v_sH = (
      _mask(query_ref, key_ref, window_ref),
      k_ref[0, 0],
      v_ref[0, 0],
    )
    for m in range(q_ref.shape[1]):
      _, dscores_ts = _recompute(
        q_ref[0, m],
        k_sH,
        v_sH,
        dout_ref[0, m],
        normaliser_ref[0, m],
        inner_ref[0, m],
        mask_ts,
        cap,
      )
      total_ref[m] += _product(dscores_ts.astype(k_sH.dtype), k_sH, (1, 0))

  @pl.when(step == pl.num_programs(3) - 1)
  def _():
    dq_ref[0] = total_ref[...]


def _dkv_kernel(
  visited_ref,
  fetched_ref,
  window_ref,
  q_ref,
  k_ref,
  v_ref,
  dout_ref,
  normaliser_ref,
  inner_ref,
  query_ref,
  key_ref,
  dk_ref,
  dv_ref,
  dk_total_ref,
  dv_total_ref,
  *,
  cap,
):
  step = pl.program_id(3)  # block of queries

  @pl.when(step == 0)
  def _():
    dk_total_ref[...] = jnp.zeros_like(dk_total_ref)
    dv_total_ref[...] = jnp.zeros_like(dv_total_ref)

  @pl.when(_is_visited(visited_ref))
  def _():
    mask_ts, k_sH, v_sH = (
      _mask(query_ref, key_ref, window_ref),
      k_ref[0, 0],
      v_ref[0, 0],
    )
    for m in range(q_ref.shape[1]):
      q_tH, dout_tH = q_ref[0, m], dout_ref[0, m]
      weights_ts, dscores_ts = _recompute(
        q_tH,
        k_sH,
        v_sH,
        dout_tH,
        normaliser_ref[0, m],
        inner_ref[0, m],
        mask_ts,
        cap,
      )
      dv_total_ref[0] += _product(weights_ts.astype(dout_tH.dtype), dout_tH, (0, 0))
      dk_total_ref[0] += _product(dscores_ts.astype(q_tH.dtype), q_tH, (0, 0))

  @pl.when(step == pl.num_programs(3) - 1)
  def _():
    dk_ref[0] = dk_total_ref[...]
    dv_ref[0] = dv_total_ref[...]


def _is_visited(visited_ref) -> Array:
  """Whether this program's pair of blocks is visited."""
  b, outer, inner = pl.program_id(0), pl.program_id(2), pl.program_id(3)
  place = (b * pl.num_programs(2) + outer) * pl.num_programs(3) + inner
  return visited_ref[place] == 1


def _recompute(q_tH, k_sH, v_sH, dout_tH, normaliser_t1, inner_t1, mask_ts, cap):
  """Attention weights of a block and gradients of its scores, both [t, s]."""
  scores_ts = soft_cap(_product(q_tH, k_sH, (1, 1)), cap)
  weights_ts = jnp.where(mask_ts, jnp.exp(scores_ts - normaliser_t1), 0.0)
  dscores_ts = weights_ts * (_product(dout_tH, v_sH, (1, 1)) - inner_t1)
  if cap is not None:
    dscores_ts = dscores_ts * slope(scores_ts, cap)
  return weights_ts, dscores_ts
