"""The key-value cache: one for the stem that all slots share, and one for each slot."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from vpo_jax.decoder import config as decoder_config

# A layer's cache is {"k": keys [..., K, H, S], "v": values [..., K, S, H]}, the layouts
# that their products read. A model's cache is a tuple of them.
Layer = dict[str, Array]
Cache = tuple[Layer, ...]

SLOTS = PartitionSpec(("data", "fsdp"), "tensor")  # B, K
STEM = PartitionSpec("tensor")  # K


def storage_dtype(precision: str) -> str:
  """The type in which keys and values are stored: float32 on a CPU.

  XLA for CPUs updates a bfloat16 array by way of a float32 copy of the whole array. The
  attention products of decoding are so small that float32 does not slow them down.
  """
  return "float32" if jax.default_backend() == "cpu" else precision


@functools.partial(
  jax.jit, static_argnames=("slots", "length", "config", "mesh", "precision")
)
def empty(
  slots: int,
  length: int,
  config: decoder_config.DecoderConfig,
  mesh: Mesh,
  precision: str,
) -> Cache:
  """The cache of empty slots with `length` positions each.

  One program for all layers: on a CPU only 32 programs may wait for a running one, here
  that of the stem.
  """

  def zeros(*shape: int) -> Array:
    return jnp.zeros((slots, config.kv_heads, *shape), storage_dtype(precision))

  H, S = config.head_dim, length
  cache = tuple({"k": zeros(H, S), "v": zeros(S, H)} for _ in range(config.layers))
  return constrain(cache, mesh, SLOTS)


def constrain(cache: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
  """The cache with a sharding constraint on every array."""
  sharding = NamedSharding(mesh, spec)
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), cache)


def new_layer(
  k_BTKH: Float[Array, "B T K H"], v_BTKH: Float[Array, "B T K H"], precision: str
) -> Layer:
  """Keys and values in the layout and type of a cache."""
  dtype = storage_dtype(precision)
  return {
    "k": jnp.transpose(k_BTKH, (0, 2, 3, 1)).astype(dtype),
    "v": jnp.transpose(v_BTKH, (0, 2, 1, 3)).astype(dtype),
  }


def write_token(
  own: Layer,
  k_BKH: Float[Array, "B K H"],
  v_BKH: Float[Array, "B K H"],
  position_B: Int[Array, " B"],
) -> Layer:
  """Writes the keys and values of one token per slot."""

  # With vmap, because for an array of slot indices XLA gathers the new keys and values
  # of all slots on every device.
  @jax.vmap
  def write(k_KHS, v_KSH, k_KH, v_KH, position):
    return {
      "k": k_KHS.at[:, :, position].set(k_KH),
      "v": v_KSH.at[:, position].set(v_KH),
    }

  dtype = own["k"].dtype
  new = k_BKH.astype(dtype), v_BKH.astype(dtype)
  return write(own["k"], own["v"], *new, position_B)


@functools.partial(jax.jit, static_argnames=("length", "mesh"), donate_argnums=0)
def write_prefill(
  cache: Cache,
  chunk: Cache,
  start_U: Int[Array, " U"],
  slot_U: Int[Array, " U"],
  *,
  length: int,
  mesh: Mesh,
) -> Cache:
  """Copies prefilled keys and values to the beginning of slots.

  Args:
    cache: of all slots.
    chunk: keys and values of the tails in a chunk (`prefill.chunk`).
    start_U: index in the chunk at which each tail begins.
    slot_U: destination of each tail; entries that are out of range are dropped.
    length: positions to copy for each tail. Those behind a shorter tail are masked
      until a decode step overwrites them.
    mesh: of the cache.
  """
  T, S = chunk[0]["v"].shape[1], cache[0]["v"].shape[2]
  length = min(length, S)
  index_UL = jnp.minimum(start_U[:, None] + jnp.arange(length)[None], T - 1)

  @jax.jit  # traced once for all layers
  def copy(own: Layer, chunk: Layer) -> Layer:
    k_KHUL, v_KULH = chunk["k"][:, :, index_UL], chunk["v"][:, index_UL]
    k_UKHL, v_UKLH = jnp.moveaxis(k_KHUL, 2, 0), jnp.moveaxis(v_KULH, 1, 0)
    return {
      "k": own["k"].at[slot_U, :, :, :length].set(k_UKHL, mode="drop"),
      "v": own["v"].at[slot_U, :, :length].set(v_UKLH, mode="drop"),
    }

  cache = tuple(copy(*layers) for layers in zip(cache, chunk, strict=True))
  return constrain(cache, mesh, SLOTS)
