"""Keys and values: those that all share, and those that a slot has of its own."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import matmul

# A layer's keys {"k": [..., K, H, T]} and values {"v": [..., K, T, H]}, each as its
# product reads it; a model's is a tuple of them.
Layer = dict[str, Array]
Cache = tuple[Layer, ...]

SLOTS = PartitionSpec(("data", "fsdp"), "tensor")  # B, K
STEM = PartitionSpec("tensor")  # K


def held(precision: str) -> str:
  """What keys and values are kept in.

  XLA for CPUs writes into a bfloat16 array by making a float32 copy of all of it; the
  products of a decode's attention are so thin that float32 costs them nothing.
  """
  return "float32" if jax.default_backend() == "cpu" else precision


def make(
  slots: int,
  length: int,
  config: decoder_config.DecoderConfig,
  mesh: Mesh,
  precision: str,
) -> Cache:
  """Empty slots."""
  where = NamedSharding(mesh, SLOTS)

  def zeros(*shape: int) -> Array:
    shape = (slots, config.kv_heads, *shape)
    return jnp.zeros(shape, held(precision), device=where)

  H, T = config.head_dim, length
  return tuple({"k": zeros(H, T), "v": zeros(T, H)} for _ in range(config.layers))


def constrain(cache: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
  where = NamedSharding(mesh, spec)
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, where), cache)


def attention(
  q_BTNH: Float[Array, "B T N H"],
  own: Layer,
  own_mask_BTS: Bool[Array, "B T S"],
  stem: Layer | None,
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
  scores = jnp.where(mask, _products(q_BKRH, own["k"]), -1e30)
  top = jnp.max(scores, axis=-1, keepdims=True)
  if stem is None:
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    mixed = _products(weights, own["v"])
  else:
    # In two parts under one softmax: joining them would copy every score twice.
    shared = _shared(q_BKRH, stem["k"])
    shared = jnp.where(stem_mask_B[:, None, None, None], shared, -1e30)
    top = jnp.maximum(top, jnp.max(shared, axis=-1, keepdims=True))
    weights, shared = jnp.exp(scores - top), jnp.exp(shared - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    total += jnp.sum(shared, axis=-1, keepdims=True)
    mixed = _products(weights, own["v"])
    mixed += _shared(shared, stem["v"])
  out = (mixed / total).reshape(B, K, T, N // K, H)
  return jnp.swapaxes(out, 1, 2).reshape(B, T, N, H)


def _products(a_BKRX, b_BKXY):
  """Each slot's own: [R, X] @ [X, Y]."""
  a = a_BKRX.astype(b_BKXY.dtype)
  return matmul.einsum("bkrx,bkxy->bkry", a, b_BKXY)


def _shared(a_BKRX, b_KXY):
  """The stem's: [B * R, X] @ [X, Y] a head, one product for all slots."""
  B, K, R, _ = a_BKRX.shape
  # Barriers keep the product in this shape; see `decode_weights.Transposed`.
  a = jnp.swapaxes(a_BKRX.astype(b_KXY.dtype), 0, 1).reshape(K, B * R, -1)
  a = jax.lax.optimization_barrier(a)
  out = matmul.einsum("krx,kxy->kry", a, b_KXY)
  out = jax.lax.optimization_barrier(out).reshape(K, B, R, -1)
  return jnp.swapaxes(out, 0, 1)


def layer(
  k_BTKH: Float[Array, "B T K H"], v_BTKH: Float[Array, "B T K H"], precision: str
) -> Layer:
  """New keys and values as a cache holds them."""
  dtype = held(precision)
  return {
    "k": jnp.transpose(k_BTKH, (0, 2, 3, 1)).astype(dtype),
    "v": jnp.transpose(v_BTKH, (0, 2, 1, 3)).astype(dtype),
  }


def put(
  own: Layer,
  k_BKH: Float[Array, "B K H"],
  v_BKH: Float[Array, "B K H"],
  place_B: Int[Array, " B"],
) -> Layer:
  """Writes one token's keys and values a slot."""
  rows_B = jnp.arange(place_B.shape[0])
  return {
    "k": own["k"].at[rows_B, :, :, place_B].set(k_BKH.astype(own["k"].dtype)),
    "v": own["v"].at[rows_B, :, place_B].set(v_BKH.astype(own["v"].dtype)),
  }


@functools.partial(jax.jit, static_argnames=("length", "mesh"), donate_argnums=0)
def place(
  cache: Cache,
  made: Cache,
  start_N: Int[Array, " N"],
  slot_N: Int[Array, " N"],
  *,
  length: int,
  mesh: Mesh,
) -> Cache:
  """Puts prefilled keys and values at the beginning of slots.

  Args:
    made: keys and values of a chunk of prompts' tails (`prefill.chunk`).
    start_N: where in the chunk each entry's tail begins.
    slot_N: where it goes; out of range for entries that go nowhere.
    length: positions that are written; what a tail does not fill is not looked at
      before a decode step has written it.
  """
  T, room = made[0]["v"].shape[1], cache[0]["v"].shape[2]
  Q = min(length, room)
  at_NQ = jnp.minimum(start_N[:, None] + jnp.arange(Q)[None], T - 1)

  def one(own: Layer, made: Layer) -> Layer:
    k_KHNQ, v_KNQH = made["k"][:, :, at_NQ], made["v"][:, at_NQ]
    k_NKHQ, v_NKQH = jnp.moveaxis(k_KHNQ, 2, 0), jnp.moveaxis(v_KNQH, 1, 0)
    return {
      "k": own["k"].at[slot_N, :, :, :Q].set(k_NKHQ, mode="drop"),
      "v": own["v"].at[slot_N, :, :Q].set(v_NKQH, mode="drop"),
    }

  placed = tuple(one(*pair) for pair in zip(cache, made, strict=True))
  return constrain(placed, mesh, SLOTS)
