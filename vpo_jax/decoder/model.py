"""The forward pass: tokens in, the last hidden states out.

What a token attends to is the caller's: `attend` receives the rotated queries and keys
and the values of one layer. The packed forest, a cached decode and a plain causal row
are three such functions over the same weights.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import matmul
from vpo_jax.decoder import remat as remats
from vpo_jax.decoder.table import Params

Remat = Literal["none", "cheap", "full"]

# (q_BLNH, k_BLKH, v_BLKH, layer's cache) -> (out_BLNH, layer's new cache)
Attend = Callable[[Any, Any, Any, Any], tuple[Any, Any]]

# Cosines and sines, [B, L, 1, H / 2].
Rotation = tuple[Array, Array]


def hidden(
  params: Params,
  tokens_BL: Int[Array, "B L"],
  positions_BL: Int[Array, "B L"],
  attend: Attend,
  config: decoder_config.DecoderConfig,
  *,
  cache: Any = None,
  dtype: str = "float32",
  remat: Remat = "none",
  rows: NamedSharding | None = None,
  turns: Rotation | None = None,
  unroll: bool = False,
) -> tuple[Float[Array, "B L D"], Any]:
  """Runs all layers and the last norm.

  Args:
    params: as `table.table` declares; `params["layers"]` is stacked, or a tuple of
      trees, one a layer (a decode reads each weight once and must not copy it).
    positions_BL: each token's place on its own path from 0, for the rotation.
    attend: what a token sees; see the module's docstring.
    cache: a tree whose leaves are stacked by layer (or a tuple of trees), handed to
      `attend` layer by layer.
    dtype: operands of the matrix products; results and the residual are float32.
    remat: what the backward pass computes again: "full" is the layers, of which only
      the inputs are kept; "cheap" all but the products, whose results are kept.
    rows: where rows live. Weights that are split over the same devices are then brought
      to the rows, a layer at a time; left to itself, XLA keeps the weights where they
      are and sums their parts of every activation over all devices.
    turns: the `rotations` of positions 0, 1, ..., of one row, from which the tokens'
      are taken; where a loop would have XLA compute cosines in each layer and step.
    unroll: writes stacked layers out one by one. A loop compiles sooner, but copies
      what a layer keeps, and its gradients, into stacks.

  Returns:
    float32 hidden states, and the caches that `attend` returned.
  """

  def on_rows(x: Array) -> Array:
    return x if rows is None else jax.lax.with_sharding_constraint(x, rows)

  x_BLD = on_rows(params["embed"][tokens_BL].astype(jnp.float32))
  if turns is None:
    rotation = rotations(positions_BL, config)
  else:
    rotation = turns[0][0, positions_BL], turns[1][0, positions_BL]

  def layer(x_BLD: Array, inputs: tuple[Any, Any]) -> tuple[Array, Any]:
    weights, cache = inputs
    x_BLD, cache = _layer(
      weights, on_rows(x_BLD), rotation, attend, cache, config, jnp.dtype(dtype)
    )
    return on_rows(x_BLD), cache

  if remat == "full":
    layer = jax.checkpoint(layer)
  if remat == "cheap":
    layer = jax.checkpoint(layer, policy=remats.save_named)
  if isinstance(params["layers"], tuple):
    layer = jax.jit(layer)  # traced once for all layers
    caches = []
    for index, weights in enumerate(params["layers"]):
      x_BLD, new = layer(x_BLD, (weights, None if cache is None else cache[index]))
      caches.append(new)
    cache = tuple(caches)
  else:
    x_BLD, cache = jax.lax.scan(layer, x_BLD, (params["layers"], cache), unroll=unroll)
  return rms_norm(x_BLD, params["norm"], config.norm_eps), cache


def head(params: Params) -> Any:
  """The output head, [V, D]: its own matrix, or the embedding when they are tied."""
  return params.get("head", params["embed"])


def logits(
  params: Params, x_BLD: Float[Array, "B L D"], dtype: str = "float32"
) -> Float[Array, "B L V"]:
  """Logits of every position, in float32; training goes through `head.logps`."""
  x, w = x_BLD.astype(dtype), head(params).astype(dtype)
  return matmul.einsum("bld,vd->blv", x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rms_norm(
  x_BLD: Float[Array, "B L D"], weight_D: Float[Array, " D"], eps: float
) -> Float[Array, "B L D"]:
  """x / sqrt(mean(x^2) + eps) * weight (arXiv:1910.07467), in float32."""
  scaled_BLD = x_BLD * _inverse_rms(x_BLD, eps)
  return scaled_BLD * weight_D.astype(jnp.float32)[None, None, :]


def _inverse_rms(x_BLD, eps):
  return jax.lax.rsqrt(jnp.mean(jnp.square(x_BLD), axis=-1, keepdims=True) + eps)


def _norm_forward(x, weight, eps):
  return rms_norm(x, weight, eps), (x, weight)


def _norm_backward(eps, saved, dy_BLD):
  x_BLD, weight_D = saved
  inverse_BL1 = _inverse_rms(x_BLD, eps)
  scaled_BLD = x_BLD * inverse_BL1
  dweight_D = jnp.sum(dy_BLD * scaled_BLD, axis=(0, 1))
  dscaled_BLD = dy_BLD * weight_D.astype(jnp.float32)[None, None, :]
  # As a product: XLA's sum of products along rows takes a CPU 10 times as long.
  along_BL = matmul.einsum("bld,bld->bl", dscaled_BLD, scaled_BLD) / x_BLD.shape[-1]
  dx_BLD = inverse_BL1 * (dscaled_BLD - scaled_BLD * along_BL[..., None])
  return dx_BLD, dweight_D.astype(weight_D.dtype)


rms_norm.defvjp(_norm_forward, _norm_backward)


def _layer(weights, x_BLD, rotation, attend, cache, config, dtype):
  c, w = config, weights
  B, L, _ = x_BLD.shape

  def product(x: Array, w: Any) -> Array:
    return matmul.product(x, w, dtype)

  y_BLD: Any = rms_norm(x_BLD, w["attn_norm"], c.norm_eps)
  q_BLNH = product(y_BLD, w["q"]).reshape(B, L, c.heads, c.head_dim)
  k_BLKH = product(y_BLD, w["k"]).reshape(B, L, c.kv_heads, c.head_dim)
  v_BLKH = product(y_BLD, w["v"]).reshape(B, L, c.kv_heads, c.head_dim)
  q_BLNH, k_BLKH = rotate(q_BLNH, rotation), rotate(k_BLKH, rotation)
  out_BLNH, cache = attend(q_BLNH, k_BLKH, v_BLKH, cache)
  x_BLD = x_BLD + remats.save(product(out_BLNH.reshape(B, L, -1), w["o"]))

  def half(x: Array) -> Array:  # the feed-forward's width is what memory goes to
    return remats.save(x.astype(dtype))

  y_BLD = rms_norm(x_BLD, w["mlp_norm"], c.norm_eps)
  gate_BLF, up_BLF = half(product(y_BLD, w["gate"])), half(product(y_BLD, w["up"]))
  gate_BLF, up_BLF = gate_BLF.astype(jnp.float32), up_BLF.astype(jnp.float32)
  return x_BLD + product(half(jax.nn.silu(gate_BLF) * up_BLF), w["down"]), cache


def frequencies(config: decoder_config.DecoderConfig) -> np.ndarray:
  """Radians a position for each of H/2 rotations, with Llama-3.1's scaling.

  The scaling leaves fast rotations, divides slow ones by the factor, and blends
  between (arXiv:2407.21783; transformers `_compute_llama3_parameters`).
  """
  h = config.head_dim
  freq = config.rope_theta ** -(np.arange(0, h, 2, dtype=np.float64) / h)
  scaling = config.rope_scaling
  if scaling is None:
    return freq.astype(np.float32)
  turns = scaling.original_context * freq / (2 * np.pi)  # within the old context
  low, high = scaling.low_freq_factor, scaling.high_freq_factor
  fast = np.clip((turns - low) / (high - low), 0.0, 1.0)
  return (fast * freq + (1 - fast) * freq / scaling.factor).astype(np.float32)


def rotations(
  positions_BL: Int[Array, "B L"], config: decoder_config.DecoderConfig
) -> Rotation:
  """Cosine and sine of each token's rotations (RoPE), float32."""
  freq = jnp.asarray(frequencies(config))[None, None, :]
  angles = positions_BL[..., None].astype(jnp.float32) * freq
  return jnp.cos(angles)[:, :, None, :], jnp.sin(angles)[:, :, None, :]


def rotate(x_BLNH, rotation):
  """Turns the pairs (x[i], x[i + H/2]) by the token's angles."""
  cos, sin = rotation
  a, b = jnp.split(x_BLNH, 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
