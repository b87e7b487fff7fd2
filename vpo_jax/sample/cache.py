"""The key-value cache: one for the stem that all slots share, and one for each slot."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from vpo_jax.decoder import config as decoder_config

# A layer's keys {"k": [..., K, H, T]} and values {"v": [..., K, T, H]}, each as its
# product reads it; a model's is a tuple of them.
Layer = dict[str, Array]
Cache = tuple[Layer, ...]

SLOTS = PartitionSpec(("data", "fsdp"), "tensor")  # B, K
STEM = PartitionSpec("tensor")  # K


def storage_dtype(precision: str) -> str:
  """What keys and values are kept in.

  XLA for CPUs writes into a bfloat16 array by making a float32 copy of all of it; the
  products of a decode's attention are so thin that float32 costs them nothing.
  """
  return "float32" if jax.default_backend() == "cpu" else precision


def empty(
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
    return jnp.zeros(shape, storage_dtype(precision), device=where)

  H, T = config.head_dim, length
  return tuple({"k": zeros(H, T), "v": zeros(T, H)} for _ in range(config.layers))


def constrain(cache: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
  where = NamedSharding(mesh, spec)
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, where), cache)


def new_layer(
  k_BTKH: Float[Array, "B T K H"], v_BTKH: Float[Array, "B T K H"], precision: str
) -> Layer:
  """New keys and values as a cache holds them."""
  dtype = storage_dtype(precision)
  return {
    "k": jnp.transpose(k_BTKH, (0, 2, 3, 1)).astype(dtype),
    "v": jnp.transpose(v_BTKH, (0, 2, 1, 3)).astype(dtype),
  }


def write_token(
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
def write_prefill(
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
