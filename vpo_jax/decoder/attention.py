"""Attention for training: over the packed forest, and over plain causal rows."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import cpu_attention, matmul, model, remat, window
from vpo_jax.decoder.soft_cap import soft_cap


def attention(
  q_BTNH: Float[Array, "B T N H"],
  k_BSKH: Float[Array, "B S K H"],
  v_BSKH: Float[Array, "B S K H"],
  mask_BTS: Bool[Array, "B T S"],
  dtype: jnp.dtype,
  cap: float | None = None,
  devices: int = 1,
) -> Float[Array, "B T N H"]:
  """Grouped-query attention under a mask, with softmax in float32.

  Chooses the implementation for all callers: cuDNN's flash attention on GPUs (bfloat16
  only, no cap, heads of up to 128), where writing scores to memory dominates the cost;
  blockwise attention on one CPU device, for the same reason; plain attention elsewhere,
  where the scores of rows of 1,000 tokens are small enough.

  Args:
    q_BTNH: queries, scaled.
    k_BSKH: keys.
    v_BSKH: values.
    mask_BTS: True where a query may attend to a key.
    dtype: operand type of the matrix products.
    cap: bound of the scores; see `soft_cap`.
    devices: number of devices over which rows and heads are split. Blockwise attention
      loops over rows and heads, which would gather them from all devices.
  """
  arrays = q_BTNH, k_BSKH, v_BSKH, mask_BTS
  by_cudnn = dtype == jnp.bfloat16 and cap is None and q_BTNH.shape[-1] <= 128
  if jax.default_backend() == "gpu" and by_cudnn:
    return fused(*arrays, "cudnn")
  if jax.default_backend() == "cpu" and devices == 1:
    return cpu_attention.attention(*arrays, dtype, cap)
  return plain(*arrays, dtype, cap)


def plain(
  q_BTNH: Float[Array, "B T N H"],
  k_BSKH: Float[Array, "B S K H"],
  v_BSKH: Float[Array, "B S K H"],
  mask_BTS: Bool[Array, "B T S"],
  dtype: jnp.dtype,
  cap: float | None = None,
) -> Float[Array, "B T N H"]:
  """`attention` that computes all scores at once."""
  B, T, N, H = q_BTNH.shape
  K = k_BSKH.shape[2]
  q, k, v = map(remat.save, (q_BTNH, k_BSKH, v_BSKH))
  q = q.astype(dtype).reshape(B, T, K, N // K, H)
  k, v = k.astype(dtype), v.astype(dtype)
  scores = soft_cap(matmul.einsum("btkmh,bskh->bkmts", q, k), cap)
  scores = jnp.where(mask_BTS[:, None, None], scores, -1e30)
  weights = jax.nn.softmax(scores, axis=-1).astype(dtype)
  out = matmul.einsum("bkmts,bskh->btkmh", weights, v)
  return remat.save(out.reshape(B, T, N, H))


def fused(
  q_BTNH: Float[Array, "B T N H"],
  k_BSKH: Float[Array, "B S K H"],
  v_BSKH: Float[Array, "B S K H"],
  mask_BTS: Bool[Array, "B T S"],
  implementation: Literal["cudnn", "xla"],
) -> Float[Array, "B T N H"]:
  """`attention` in bfloat16 by `jax.nn.dot_product_attention`."""
  T, odd = q_BTNH.shape[1], lambda x: x.shape[1] % 2  # cuDNN requires even lengths

  def pad(x):
    x = remat.save(x.astype(jnp.bfloat16))
    return jnp.pad(x, ((0, 0), (0, odd(x)), (0, 0), (0, 0)))

  # The padding query attends to all keys and is dropped; the padding key is masked.
  mask = jnp.pad(mask_BTS, ((0, 0), (0, odd(q_BTNH)), (0, 0)), constant_values=True)
  mask = jnp.pad(mask, ((0, 0), (0, 0), (0, odd(k_BSKH))))
  out = jax.nn.dot_product_attention(
    pad(q_BTNH),
    pad(k_BSKH),
    pad(v_BSKH),
    mask=mask[:, None],
    scale=1.0,
    implementation=implementation,
  )
  return out[:, :T].astype(jnp.float32)


def causal(
  config: decoder_config.DecoderConfig, dtype: str = "float32", devices: int = 1
) -> model.Attend:
  """Causal attention within each row; arguments as in `forest`."""

  def attend(q, k, v, cache, kind):
    T = q.shape[1]
    position_1T = jnp.arange(T)[None]
    mask = jnp.tri(T, dtype=bool)[None]
    masks = window.masks(config, mask, position_1T, position_1T, longest=T)
    mask = jnp.broadcast_to(model.by_kind(masks, kind), (q.shape[0], T, T))
    out = attention(q, k, v, mask, jnp.dtype(dtype), config.score_cap, devices)
    return out, cache

  return attend


def forest(
  config: decoder_config.DecoderConfig,
  tree_GRT: Int[Array, "G R T"],
  branch_GRT: Int[Array, "G R T"],
  position_GL: Int[Array, "G L"],
  stem_G: Int[Array, " G"],
  dtype: str = "float32",
  devices: int = 1,
) -> model.Attend:
  """Attention from each token to its path to the root of a packed forest.

  The sequence of a group is [stem | row 0 | row 1 | ...]: some positions for the stem,
  then R rows of T positions. `data.forest` builds it.

  Args:
    config: of the model.
    tree_GRT: index of each token's tree in its row. Tokens of different trees do not
      see each other; padding has an index of its own.
    branch_GRT: 0 in the tree's trunk (the query), b > 0 in its branch b (a response).
    position_GL: of each token of the sequence on its path, from 0.
    stem_G: number of tokens in the group's stem; the rest of its positions is padding.
    dtype: operand type of the matrix products.
    devices: number of devices over which groups and heads are split.
  """
  G, R, T = tree_GRT.shape
  stem_size = position_GL.shape[1] - R * T

  def rows(x):
    return x[:, stem_size:].reshape(G * R, T, *x.shape[2:])

  def with_stem(x):
    """What belongs to the keys of each row, preceded by that of its group's stem."""
    shape = (G, R, stem_size, *x.shape[2:])
    stem = jnp.broadcast_to(x[:, None, :stem_size], shape)
    stem = stem.reshape(G * R, stem_size, *x.shape[2:])
    return jnp.concatenate([stem, rows(x)], axis=1)

  mask = path_mask(tree_GRT.reshape(G * R, T), branch_GRT.reshape(G * R, T))
  in_stem = jnp.arange(stem_size)[None, None, None] < stem_G[:, None, None, None]
  in_stem = jnp.broadcast_to(in_stem, (G, R, T, stem_size))
  mask = jnp.concatenate([in_stem.reshape(G * R, T, stem_size), mask], axis=-1)
  row_positions, key_positions = rows(position_GL), with_stem(position_GL)
  masks = window.masks(config, mask, row_positions, key_positions, stem_size + T)
  # Padding in the stem attends to it but is never attended to.
  stem_GS = position_GL[:, :stem_size]
  stem_mask = jnp.tri(stem_size, dtype=bool)[None]
  stem_mask = jnp.broadcast_to(stem_mask, (G, stem_size, stem_size))
  stem_masks = window.masks(config, stem_mask, stem_GS, stem_GS, stem_size)
  attend_to = functools.partial(
    attention, dtype=jnp.dtype(dtype), cap=config.score_cap, devices=devices
  )

  def attend(q, k, v, cache, kind):
    mask = model.by_kind(masks, kind)
    out = attend_to(rows(q), with_stem(k), with_stem(v), mask)
    out = out.reshape(G, R * T, *q.shape[2:])
    if stem_size:
      stem_q, stem_k, stem_v = (x[:, :stem_size] for x in (q, k, v))
      stem_out = attend_to(stem_q, stem_k, stem_v, model.by_kind(stem_masks, kind))
      out = jnp.concatenate([stem_out, out], axis=1)
    return out, cache

  return attend


def path_mask(
  tree_BT: Int[Array, "B T"], branch_BT: Int[Array, "B T"]
) -> Bool[Array, "B T T"]:
  """True at [i, j] if j lies on the path from i to the root of its tree."""
  T = tree_BT.shape[1]
  same_tree = tree_BT[:, :, None] == tree_BT[:, None, :]
  on_path = (branch_BT[:, None, :] == 0) | (
    branch_BT[:, :, None] == branch_BT[:, None, :]
  )
  return same_tree & on_path & jnp.tri(T, dtype=bool)[None]
