"""Attention for training: over the packed forest, and over plain causal rows."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import (
  cpu_attention,
  matmul,
  model,
  paths,
  remat,
  sharding,
  window,
)
from vpo_jax.decoder.soft_cap import soft_cap
from vpo_jax.decoder.tpu import attention as tpu_attention
from vpo_jax.decoder.tpu import grid, layout

# Fewest keys of a row for which the TPU's kernel is used.
KERNEL_FROM = 512


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

  Chooses the implementation where a mask is given: cuDNN's flash attention on GPUs
  (bfloat16 only, no cap, heads of up to 128), where writing scores to memory dominates
  the cost; blockwise attention on one CPU device, for the same reason; plain attention
  elsewhere. On TPUs `forest` uses a kernel that needs no mask.

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
  config: decoder_config.DecoderConfig, dtype: str = "float32"
) -> model.Attend:
  """Causal attention within each row, without a kernel; arguments as in `forest`."""

  def attend(q, k, v, cache, kind):
    T = q.shape[1]
    position_1T = jnp.arange(T)[None]
    mask = jnp.tri(T, dtype=bool)[None]
    masks = window.masks(config, mask, position_1T, position_1T, longest=T)
    mask = jnp.broadcast_to(model.by_kind(masks, kind), (q.shape[0], T, T))
    return plain(q, k, v, mask, jnp.dtype(dtype), config.score_cap), cache

  return attend


def forest(
  config: decoder_config.DecoderConfig,
  tree_GRT: Int[Array, "G R T"],
  branch_GRT: Int[Array, "G R T"],
  position_GL: Int[Array, "G L"],
  stem_G: Int[Array, " G"],
  dtype: str = "float32",
  rows: NamedSharding | None = None,
) -> model.Attend:
  """Attention from each token to its path to the root of a packed forest.

  The sequence of a group is [stem | row 0 | row 1 | ...]: some positions for the stem,
  then R rows of T positions. `data.forest` builds it.

  Args:
    config: of the model.
    tree_GRT, branch_GRT, position_GL, stem_G: as in `paths.of_forest`.
    dtype: operand type of the matrix products.
    rows: the sharding of the groups; None for one device.
  """
  G, R, T = tree_GRT.shape
  stem = position_GL.shape[1] - R * T

  def of_rows(x):
    return x[:, stem:].reshape(G * R, T, *x.shape[2:])

  def with_stem(x):
    """The keys or values of each row, preceded by those of its group's stem."""
    shape = (G, R, stem, *x.shape[2:])
    of_stem = jnp.broadcast_to(x[:, None, :stem], shape)
    of_stem = of_stem.reshape(G * R, stem, *x.shape[2:])
    return jnp.concatenate([of_stem, of_rows(x)], axis=1)

  row_paths, stem_paths = paths.of_forest(tree_GRT, branch_GRT, position_GL, stem_G)
  attend_to_rows = _along(config, row_paths, dtype, rows)
  attend_to_stem = _along(config, stem_paths, dtype, rows) if stem else None

  def attend(q, k, v, cache, kind):
    out = attend_to_rows(of_rows(q), with_stem(k), with_stem(v), kind)
    out = out.reshape(G, R * T, *q.shape[2:])
    if attend_to_stem:
      stem_q, stem_k, stem_v = (x[:, :stem] for x in (q, k, v))
      stem_out = attend_to_stem(stem_q, stem_k, stem_v, kind)
      out = jnp.concatenate([stem_out, out], axis=1)
    return out, cache

  return attend


def _along(
  config: decoder_config.DecoderConfig,
  which: paths.Paths,
  dtype: str,
  rows: NamedSharding | None,
) -> Callable[[Array, Array, Array, model.Kind], Array]:
  """Attention along paths, given queries, keys, values and the kind of the layer."""
  keys = which.key_BS.shape[1]
  windows = window.sizes(config, keys)
  platform = sharding.platform(rows) if rows else jax.default_backend()
  if has_kernel(platform, keys, config.head_dim):
    block = layout.BLOCK
    settings = grid.Settings(
      dtype, config.score_cap, block, interpret=platform != "tpu"
    )
    layouts = {size: layout.make(which, size, block) for size in set(windows)}

    def by_kernel(q, k, v, kind):
      of_kind = jax.tree.map(
        lambda *options: model.by_kind(options, kind), *(layouts[w] for w in windows)
      )
      return _sharded(settings, rows)(q, k, v, of_kind)

    return by_kernel
  devices = rows.mesh.size if rows else 1
  masks = {size: which.mask(size) for size in set(windows)}

  def by_mask(q, k, v, kind):
    mask = model.by_kind([masks[size] for size in windows], kind)
    return attention(q, k, v, mask, jnp.dtype(dtype), config.score_cap, devices)

  return by_mask


def has_kernel(platform: str, keys: int, head_dim: int) -> bool:
  """Whether attention to so many keys is faster in the TPU's kernel."""
  return platform == "tpu" and keys >= KERNEL_FROM and head_dim % 64 == 0


def _sharded(settings: grid.Settings, rows: NamedSharding | None) -> Callable[..., Any]:
  """The kernel on each device's rows and heads: XLA cannot split it by itself."""

  def kernel(q, k, v, of_kind):
    return tpu_attention.attention(q, k, v, of_kind, settings)

  if rows is None:
    return kernel
  arrays = PartitionSpec(*rows.spec, None, sharding.RULES["heads"], None)
  of_rows = PartitionSpec(*rows.spec)
  by_row = layout.Layout(*[of_rows] * 5, window=PartitionSpec())
  return jax.shard_map(
    kernel,
    mesh=rows.mesh,
    in_specs=(arrays, arrays, arrays, by_row),
    out_specs=arrays,
    check_vma=False,
  )
