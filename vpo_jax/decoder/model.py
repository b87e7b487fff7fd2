"""The forward pass, from tokens to the last hidden states.

The caller decides what a token attends to: `attend` receives the rotated and scaled
queries, the rotated keys and the values of a layer, and returns the attention output.
The packed forest, cached decoding and plain causal rows are three such functions.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import matmul
from vpo_jax.decoder import remat as remats
from vpo_jax.decoder.rope import Rope
from vpo_jax.decoder.soft_cap import soft_cap
from vpo_jax.decoder.table import Params

Remat = Literal["none", "cheap", "full"]

# Index in `config.kinds`: an int, or in a scan over layers an array.
Kind = Any

# (q_BTNH, k_BTKH, v_BTKH, cache of the layer, kind of the layer)
# -> (out_BTNH, new cache of the layer)
Attend = Callable[[Any, Any, Any, Any, Kind], tuple[Any, Any]]

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
  rotation_table: Sequence[Rotation] | None = None,
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
  if config.embed_scale != 1:
    x_BTD = x_BTD * config.embed_scale
  if rotation_table is None:
    rotation_of_kind = rotations(positions_BT, config)
  else:
    rotation_of_kind = [
      (cos[0, positions_BT], sin[0, positions_BT]) for cos, sin in rotation_table
    ]

  def layer(x_BTD: Array, inputs: tuple[Any, Any], kind: Kind) -> tuple[Array, Any]:
    weights, cache = inputs
    rotation: Any = [
      by_kind(part, kind) for part in zip(*rotation_of_kind, strict=True)
    ]
    x_BTD, cache = _layer(
      weights, constrain(x_BTD), rotation, attend, cache, kind, config, jnp.dtype(dtype)
    )
    return constrain(x_BTD), cache

  if remat == "full":
    layer = jax.checkpoint(layer)
  if remat == "cheap":
    layer = jax.checkpoint(layer, policy=remats.save_named)
  if isinstance(params["layers"], tuple):
    layer = jax.jit(layer, static_argnums=2)  # traced once for all layers of a kind
    caches = []
    for index, weights in enumerate(params["layers"]):
      inputs = weights, None if cache is None else cache[index]
      x_BTD, new = layer(x_BTD, inputs, config.kind_of_layer[index])
      caches.append(new)
    cache = tuple(caches)
  elif len(config.kinds) == 1:
    x_BTD, cache = jax.lax.scan(
      functools.partial(layer, kind=0), x_BTD, (params["layers"], cache), unroll=unroll
    )
  else:
    kind_L = jnp.asarray(config.kind_of_layer)
    x_BTD, cache = jax.lax.scan(
      lambda x_BTD, inputs: layer(x_BTD, *inputs),
      x_BTD,
      ((params["layers"], cache), kind_L),
      unroll=unroll,
    )
  return _norm(x_BTD, params["norm"], config), cache


def by_kind(options: Sequence[Array], kind: Kind) -> Array:
  """The option of a layer's kind; all have the same shape."""
  if isinstance(kind, int):
    return options[kind]
  if all(option is options[0] for option in options):
    return options[0]
  return jax.lax.select_n(kind, *options)


def head(params: Params) -> Any:
  """The output head, [V, D], which is the embedding if they are tied."""
  return params.get("head", params["embed"])


def logits(
  params: Params,
  x: Float[Array, "*batch D"],
  config: decoder_config.DecoderConfig,
  dtype: str = "float32",
) -> Float[Array, "*batch V"]:
  """Float32 logits of hidden states. Training uses `head.logps` instead."""
  w = head(params)
  if isinstance(w, matmul.Matrix):
    found = w.product(x, jnp.dtype(dtype))
  else:
    found = matmul.einsum("...d,vd->...v", x.astype(dtype), w.astype(dtype))
  return soft_cap(found, config.logit_cap)


def _norm(x, weight, config: decoder_config.DecoderConfig):
  if config.norm_offset:
    weight = weight.astype(jnp.float32) + config.norm_offset
  return rms_norm(x, weight, config.norm_eps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rms_norm(
  x: Float[Array, "*batch D"], weight_D: Float[Array, " D"], eps: float
) -> Float[Array, "*batch D"]:
  """x / sqrt(mean(x^2) + eps) * weight (arXiv:1910.07467), in float32."""
  return x * _inverse_rms(x, eps) * _last_axis(weight_D, x)


def _inverse_rms(x, eps):
  return jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + eps)


def _last_axis(x_D, like):
  """x_D as float32 with the rank of `like`."""
  return x_D.astype(jnp.float32).reshape(*[1] * (like.ndim - 1), -1)


def _norm_forward(x, weight, eps):
  return rms_norm(x, weight, eps), (x, weight)


def _norm_backward(eps, saved, dy):
  x, weight_D = saved
  inverse = _inverse_rms(x, eps)
  scaled = x * inverse
  dweight_D = jnp.sum(dy * scaled, axis=range(x.ndim - 1))
  dscaled = dy * _last_axis(weight_D, x)
  # As a matrix product: on a CPU, XLA's reduction along rows takes 10 times as long.
  projection = matmul.einsum("...d,...d->...", dscaled, scaled) / x.shape[-1]
  dx = inverse * (dscaled - scaled * projection[..., None])
  return dx, dweight_D.astype(weight_D.dtype)


rms_norm.defvjp(_norm_forward, _norm_backward)


_ACTIVATIONS = {"silu": jax.nn.silu, "gelu_tanh": jax.nn.gelu}


def _layer(weights, x_BTD, rotation, attend, cache, kind, config, dtype):
  c, w = config, weights
  B, T, _ = x_BTD.shape

  def product(x: Array, name: str) -> Any:
    y = matmul.product(x, w[name], dtype)
    if name in c.biases:
      y = y + _last_axis(w[f"{name}_bias"], y)
    return y

  y_BTD: Any = _norm(x_BTD, w["attn_norm"], c)
  q_BTNH = product(y_BTD, "q").reshape(B, T, c.heads, c.head_dim)
  k_BTKH = product(y_BTD, "k").reshape(B, T, c.kv_heads, c.head_dim)
  v_BTKH = product(y_BTD, "v").reshape(B, T, c.kv_heads, c.head_dim)
  if c.qk_norm:
    q_BTNH, k_BTKH = _norm(q_BTNH, w["q_norm"], c), _norm(k_BTKH, w["k_norm"], c)
  q_BTNH, k_BTKH = rotate(q_BTNH, rotation), rotate(k_BTKH, rotation)
  out_BTNH, cache = attend(q_BTNH * c.query_scale, k_BTKH, v_BTKH, cache, kind)
  out_BTD = remats.save(product(out_BTNH.reshape(B, T, -1), "o"))
  if c.output_norms:
    out_BTD = _norm(out_BTD, w["attn_out_norm"], c)
  x_BTD = x_BTD + out_BTD

  def rounded(x: Array) -> Array:
    """x in `dtype`, saved: at the feed-forward's width, this takes the most memory."""
    return remats.save(x.astype(dtype))

  y_BTD = _norm(x_BTD, w["mlp_norm"], c)
  gate_BTF = rounded(product(y_BTD, "gate")).astype(jnp.float32)
  up_BTF = rounded(product(y_BTD, "up")).astype(jnp.float32)
  gated_BTF = rounded(_ACTIVATIONS[c.activation](gate_BTF) * up_BTF)
  out_BTD = product(gated_BTF, "down")
  if c.output_norms:
    out_BTD = _norm(remats.save(out_BTD), w["mlp_out_norm"], c)
  return x_BTD + out_BTD, cache


def rotations(
  positions_BT: Int[Array, "B T"], config: decoder_config.DecoderConfig
) -> list[Rotation]:
  """Float32 cosines and sines of each token's RoPE angles, for each kind of layer."""

  def rotation(rope: Rope) -> Rotation:
    frequencies = jnp.asarray(rope.frequencies, jnp.float32)[None, None, :]
    angles = positions_BT[..., None].astype(jnp.float32) * frequencies
    cos, sin = (rope.scale * f(angles)[:, :, None, :] for f in (jnp.cos, jnp.sin))
    return cos, sin

  ropes = dict.fromkeys(kind.rope for kind in config.kinds)
  found = {rope: rotation(rope) for rope in ropes}
  return [found[kind.rope] for kind in config.kinds]


def rotate(x_BTNH, rotation):
  """Rotates the pairs (x[i], x[i + H/2]) by the token's angles."""
  cos, sin = rotation
  a, b = jnp.split(x_BTNH, 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
