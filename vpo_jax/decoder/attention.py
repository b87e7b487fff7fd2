"""What a token sees: the packed forest, and the plain causal row, its special case."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vpo_jax.decoder import cpu_attention, matmul, model, remat


def attention(
  q_BTNH: Float[Array, "B T N H"],
  k_BSKH: Float[Array, "B S K H"],
  v_BSKH: Float[Array, "B S K H"],
  mask_BTS: Bool[Array, "B T S"],
  dtype: jnp.dtype,
  devices: int = 1,
) -> Float[Array, "B T N H"]:
  """Grouped-query attention under a mask; softmax in float32.

  How it is computed is chosen here, for all callers: cuDNN's flash attention on GPUs,
  where scores in memory are what costs, and which takes bfloat16 only; on a CPU block
  by block, for the same reason; elsewhere the plain products, whose scores of a row fit
  a TPU's rows of 1,000 tokens.

  Args:
    devices: that rows and heads are spread over; a loop over blocks would gather them.
  """
  if jax.default_backend() == "gpu" and dtype == jnp.bfloat16:
    return fused(q_BTNH, k_BSKH, v_BSKH, mask_BTS, "cudnn")
  if jax.default_backend() == "cpu" and devices == 1:
    return cpu_attention.attention(q_BTNH, k_BSKH, v_BSKH, mask_BTS, dtype)
  return plain(q_BTNH, k_BSKH, v_BSKH, mask_BTS, dtype)


def plain(
  q_BTNH: Float[Array, "B T N H"],
  k_BSKH: Float[Array, "B S K H"],
  v_BSKH: Float[Array, "B S K H"],
  mask_BTS: Bool[Array, "B T S"],
  dtype: jnp.dtype,
) -> Float[Array, "B T N H"]:
  """All scores at once."""
  B, T, N, H = q_BTNH.shape
  K = k_BSKH.shape[2]
  q, k, v = map(remat.save, (q_BTNH * H**-0.5, k_BSKH, v_BSKH))
  q = q.astype(dtype).reshape(B, T, K, N // K, H)
  k, v = k.astype(dtype), v.astype(dtype)
  scores = matmul.einsum("btkmh,bskh->bkmts", q, k)
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
  """The same in bfloat16 by `jax.nn.dot_product_attention`."""
  T, odd = q_BTNH.shape[1], lambda x: x.shape[1] % 2  # cuDNN wants even lengths

  def even(x):
    x = remat.save(x.astype(jnp.bfloat16))
    return jnp.pad(x, ((0, 0), (0, odd(x)), (0, 0), (0, 0)))

  # A query that is added sees all keys, and is dropped; an added key is not seen.
  mask = jnp.pad(mask_BTS, ((0, 0), (0, odd(q_BTNH)), (0, 0)), constant_values=True)
  mask = jnp.pad(mask, ((0, 0), (0, 0), (0, odd(k_BSKH))))
  out = jax.nn.dot_product_attention(
    even(q_BTNH),
    even(k_BSKH),
    even(v_BSKH),
    mask=mask[:, None],
    implementation=implementation,
  )
  return out[:, :T].astype(jnp.float32)


def causal(dtype: str = "float32") -> model.Attend:
  """Each token sees itself and all before it in its own row."""

  def attend(q, k, v, cache):
    L = q.shape[1]
    mask = jnp.broadcast_to(jnp.tri(L, dtype=bool)[None], (q.shape[0], L, L))
    return attention(q, k, v, mask, jnp.dtype(dtype)), cache

  return attend


def forest(
  tree_GRT: Int[Array, "G R T"],
  branch_GRT: Int[Array, "G R T"],
  stem_G: Int[Array, " G"],
  room: int,
  dtype: str = "float32",
  devices: int = 1,
) -> model.Attend:
  """Each token sees its own path to the root, in a group of one stem and R rows.

  A group is laid out [room for the stem | row 0 | row 1 | ...], S + R * T tokens.

  Args:
    tree_GRT: which tree of its row a token belongs to; tokens of other trees are not
      on its path. Padding is a tree of its own.
    branch_GRT: 0 for the tree's trunk (the query), b > 0 for its branch b (a response).
    stem_G: tokens of the group's stem.
    room: S, for the longest stem; may be 0.
    dtype: operands of the products.
    devices: that groups and heads are spread over.
  """
  G, R, T = tree_GRT.shape
  mask = path_mask(tree_GRT.reshape(G * R, T), branch_GRT.reshape(G * R, T))
  on_stem_G11S = jnp.arange(room)[None, None, None] < stem_G[:, None, None, None]
  on_stem = jnp.broadcast_to(on_stem_G11S, (G, R, T, room)).reshape(G * R, T, room)
  mask = jnp.concatenate([on_stem, mask], axis=-1)
  attends = functools.partial(attention, dtype=jnp.dtype(dtype), devices=devices)

  def rows(x):
    return x[:, room:].reshape(G * R, T, *x.shape[2:])

  def with_stem(x):
    """[G*R, S+T, ...]: every row's keys behind its group's stem."""
    shared = jnp.broadcast_to(x[:, None, :room], (G, R, room, *x.shape[2:]))
    return jnp.concatenate([shared.reshape(G * R, room, *x.shape[2:]), rows(x)], axis=1)

  def attend(q, k, v, cache):
    out = attends(rows(q), with_stem(k), with_stem(v), mask)
    out = out.reshape(G, R * T, *q.shape[2:])
    if room:  # what is empty of it sees the stem, and nothing sees it
      above = jnp.broadcast_to(jnp.tri(room, dtype=bool)[None], (G, room, room))
      stem = attends(q[:, :room], k[:, :room], v[:, :room], above)
      out = jnp.concatenate([stem, out], axis=1)
    return out, cache

  return attend


def path_mask(
  tree_BT: Int[Array, "B T"], branch_BT: Int[Array, "B T"]
) -> Bool[Array, "B T T"]:
  """True at [i, j] where j lies on the path from i to its tree's root."""
  T = tree_BT.shape[1]
  same_tree = tree_BT[:, :, None] == tree_BT[:, None, :]
  on_path = (branch_BT[:, None, :] == 0) | (
    branch_BT[:, :, None] == branch_BT[:, None, :]
  )
  return same_tree & on_path & jnp.tri(T, dtype=bool)[None]
