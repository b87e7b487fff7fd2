"""The forward pass, from tokens to the last hidden states.

The caller decides what a token attends to: `attend` receives the rotated queries, the
rotated keys and the values of a layer, and returns the attention output. The packed
forest, cached decoding and plain causal rows are three such functions.
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

# (q_BTNH, k_BTKH, v_BTKH, cache of the layer) -> (out_BTNH, new cache of the layer)
Attend = Callable[[Any, Any, Any, Any], tuple[Any, Any]]

# Cosines and sines of RoPE's angles, each [B, T, 1, H / 2].
Rotation = tuple[Array, Array]


def hidden(
  params: Params,
  tokens_BT: Int[Array, "B T"],
  positions_BT: Int[Array, "B T"],
  attend: Attend,
  config: decoder_config.DecoderConfig,
  *,
  cache: Any = None,
  dtype: str = "float32",
  remat: Remat = "none",
  row_sharding: NamedSharding | None = None,
  rotation_table: Rotation | None = None,
  unroll: bool = False,
) -> tuple[Float[Array, "B T D"], Any]:
  """Runs all layers and the final norm.

  Args:
    params: as `table.table` declares. `params["layers"]` is stacked, or a tuple with a
      tree for each layer: decoding reads each weight once and must not copy it.
    tokens_BT: token ids.
    positions_BT: position of each token on its path, from 0, for RoPE.
    attend: the attention of a layer; see the module's docstring.
    config: of the model.
    cache: a tree with leaves stacked by layer, or a tuple with a tree for each layer;
      `attend` gets each layer's part.
    dtype: operand type of the matrix products; their results and the residual stream
      are float32.
    remat: what the backward pass recomputes: nothing ("none"), all but the results of
      matrix products ("cheap"), or whole layers from their inputs ("full").
    row_sharding: sharding of the rows. XLA then gathers weights that are split over the
      same devices, one layer at a time. Without it, XLA leaves the weights in place and
      sums partial activations over all devices.
    rotation_table: `rotations` of positions 0, 1, ... of one row, to look up the
      tokens' own. In a decode loop XLA would compute cosines in each layer and step.
    unroll: whether to unroll the loop over stacked layers. The loop compiles faster but
      copies what each layer saves, and its gradients, into stacks.

  Returns:
    float32 hidden states, and the caches that `attend` returned.
  """

  def constrain(x: Array) -> Array:
    if row_sharding is None:
      return x
    return jax.lax.with_sharding_constraint(x, row_sharding)

  x_BTD = constrain(params["embed"][tokens_BT].astype(jnp.float32))
  if rotation_table is None:
    rotation = rotations(positions_BT, config)
  else:
    cos, sin = rotation_table
    rotation = cos[0, positions_BT], sin[0, positions_BT]

  def layer(x_BTD: Array, inputs: tuple[Any, Any]) -> tuple[Array, Any]:
    weights, cache = inputs
    x_BTD, cache = _layer(
      weights, constrain(x_BTD), rotation, attend, cache, config, jnp.dtype(dtype)
    )
    return constrain(x_BTD), cache

  if remat == "full":
    layer = jax.checkpoint(layer)
  if remat == "cheap":
    layer = jax.checkpoint(layer, policy=remats.save_named)
  if isinstance(params["layers"], tuple):
    layer = jax.jit(layer)  # traced once for all layers
    caches = []
    for index, weights in enumerate(params["layers"]):
      x_BTD, new = layer(x_BTD, (weights, None if cache is None else cache[index]))
      caches.append(new)
    cache = tuple(caches)
  else:
    x_BTD, cache = jax.lax.scan(layer, x_BTD, (params["layers"], cache), unroll=unroll)
  return rms_norm(x_BTD, params["norm"], config.norm_eps), cache


def head(params: Params) -> Any:
  """The output head, [V, D], which is the embedding if they are tied."""
  return params.get("head", params["embed"])


def logits(
  params: Params, x_BTD: Float[Array, "B T D"], dtype: str = "float32"
) -> Float[Array, "B T V"]:
  """Float32 logits of every position. Training uses `head.logps` instead."""
  x, w = x_BTD.astype(dtype), head(params).astype(dtype)
  return matmul.einsum("bld,vd->blv", x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rms_norm(
  x_BTD: Float[Array, "B T D"], weight_D: Float[Array, " D"], eps: float
) -> Float[Array, "B T D"]:
  """x / sqrt(mean(x^2) + eps) * weight (arXiv:1910.07467), in float32."""
  scaled_BTD = x_BTD * _inverse_rms(x_BTD, eps)
  return scaled_BTD * weight_D.astype(jnp.float32)[None, None, :]


def _inverse_rms(x_BTD, eps):
  return jax.lax.rsqrt(jnp.mean(jnp.square(x_BTD), axis=-1, keepdims=True) + eps)


def _norm_forward(x, weight, eps):
  return rms_norm(x, weight, eps), (x, weight)


def _norm_backward(eps, saved, dy_BTD):
  x_BTD, weight_D = saved
  inverse_BT1 = _inverse_rms(x_BTD, eps)
  scaled_BTD = x_BTD * inverse_BT1
  dweight_D = jnp.sum(dy_BTD * scaled_BTD, axis=(0, 1))
  dscaled_BTD = dy_BTD * weight_D.astype(jnp.float32)[None, None, :]
  # As a matrix product: on a CPU, XLA's reduction along rows takes 10 times as long.
  projection_BT = (
    matmul.einsum("bld,bld->bl", dscaled_BTD, scaled_BTD) / x_BTD.shape[-1]
  )
  dx_BTD = inverse_BT1 * (dscaled_BTD - scaled_BTD * projection_BT[..., None])
  return dx_BTD, dweight_D.astype(weight_D.dtype)


rms_norm.defvjp(_norm_forward, _norm_backward)


def _layer(weights, x_BTD, rotation, attend, cache, config, dtype):
  c, w = config, weights
  B, T, _ = x_BTD.shape

  def product(x: Array, w: Any) -> Array:
    return matmul.product(x, w, dtype)

  y_BTD: Any = rms_norm(x_BTD, w["attn_norm"], c.norm_eps)
  q_BTNH = product(y_BTD, w["q"]).reshape(B, T, c.heads, c.head_dim)
  k_BTKH = product(y_BTD, w["k"]).reshape(B, T, c.kv_heads, c.head_dim)
  v_BTKH = product(y_BTD, w["v"]).reshape(B, T, c.kv_heads, c.head_dim)
  q_BTNH, k_BTKH = rotate(q_BTNH, rotation), rotate(k_BTKH, rotation)
  out_BTNH, cache = attend(q_BTNH, k_BTKH, v_BTKH, cache)
  x_BTD = x_BTD + remats.save(product(out_BTNH.reshape(B, T, -1), w["o"]))

  def rounded(x: Array) -> Array:
    """x in `dtype`, saved: at the feed-forward's width, this takes the most memory."""
    return remats.save(x.astype(dtype))

  y_BTD = rms_norm(x_BTD, w["mlp_norm"], c.norm_eps)
  gate_BTF = rounded(product(y_BTD, w["gate"])).astype(jnp.float32)
  up_BTF = rounded(product(y_BTD, w["up"])).astype(jnp.float32)
  gated_BTF = rounded(jax.nn.silu(gate_BTF) * up_BTF)
  return x_BTD + product(gated_BTF, w["down"]), cache


def frequencies(config: decoder_config.DecoderConfig) -> np.ndarray:
  """RoPE frequencies, [H / 2], in radians per position.

  Llama 3.1's scaling keeps high frequencies, divides low ones by a factor, and
  interpolates between (arXiv:2407.21783; transformers `_compute_llama3_parameters`).
  """
  h = config.head_dim
  freq = config.rope_theta ** -(np.arange(0, h, 2, dtype=np.float64) / h)
  scaling = config.rope_scaling
  if scaling is None:
    return freq.astype(np.float32)
  cycles = scaling.original_context * freq / (2 * np.pi)  # in the original context
  low, high = scaling.low_freq_factor, scaling.high_freq_factor
  keep = np.clip((cycles - low) / (high - low), 0.0, 1.0)
  return (keep * freq + (1 - keep) * freq / scaling.factor).astype(np.float32)


def rotations(
  positions_BT: Int[Array, "B T"], config: decoder_config.DecoderConfig
) -> Rotation:
  """Float32 cosines and sines of each token's RoPE angles."""
  freq = jnp.asarray(frequencies(config))[None, None, :]
  angles = positions_BT[..., None].astype(jnp.float32) * freq
  return jnp.cos(angles)[:, :, None, :], jnp.sin(angles)[:, :, None, :]


def rotate(x_BTNH, rotation):
  """Rotates the pairs (x[i], x[i + H/2]) by the token's angles."""
  cos, sin = rotation
  a, b = jnp.split(x_BTNH, 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
