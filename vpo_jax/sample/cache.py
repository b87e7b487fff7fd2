"""Keys and values: those that all share, and those that a slot has of its own."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from vpo_jax.llama import config as llama_config

# A layer's keys and values, {"k": [..., K, T, H], "v": the same}; a model's is a tuple.
Layer = dict[str, Array]
Cache = tuple[Layer, ...]

SLOTS = PartitionSpec(("data", "fsdp"), "tensor")  # B, K
STEM = PartitionSpec("tensor")  # K


def make(
  slots: int,
  length: int,
  config: llama_config.LlamaConfig,
  mesh: Mesh,
  dtype: str,
) -> Cache:
  """Empty slots."""
  shape = (slots, config.kv_heads, length, config.head_dim)
  where = NamedSharding(mesh, SLOTS)
  zeros = jax.jit(lambda: jnp.zeros(shape, dtype), out_shardings=where)
  return tuple({"k": zeros(), "v": zeros()} for _ in range(config.layers))


def constrain(cache: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
  where = NamedSharding(mesh, spec)
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, where), cache)


def attention(
  q_BTNH: Float[Array, "B T N H"],
  own: Layer,
  own_mask_BTS: Bool[Array, "B T S"],
  stem: Layer | None,
  stem_mask_B: Bool[Array, " B"],
  dtype: jnp.dtype,
) -> Float[Array, "B T N H"]:
  """Attention to the shared stem and to a slot's own keys, under one softmax.

  Args:
    own: keys and values [B, K, S, H].
    own_mask_BTS: which of them a query sees.
    stem: keys and values [K, S, H], read once for all slots.
    stem_mask_B: whether the slot's prompt begins with the stem.
  """
  B, T, N, H = q_BTNH.shape
  K = own["k"].shape[1]
  q = (q_BTNH * H**-0.5).astype(dtype).reshape(B, T, K, N // K, H)
  scores = _scores("btkmh,bksh->bkmts", q, own["k"], own_mask_BTS[:, None, None])
  if stem is None:
    return _mix("bkmts,bksh->btkmh", jax.nn.softmax(scores), own["v"], q_BTNH.shape)
  shared = _scores(
    "btkmh,ksh->bkmts", q, stem["k"], stem_mask_B[:, None, None, None, None]
  )
  weights = jax.nn.softmax(jnp.concatenate([shared, scores], axis=-1), axis=-1)
  S = stem["k"].shape[1]
  return _mix("bkmts,ksh->btkmh", weights[..., :S], stem["v"], q_BTNH.shape) + _mix(
    "bkmts,bksh->btkmh", weights[..., S:], own["v"], q_BTNH.shape
  )


def _scores(indices, q, k, mask):
  scores = jnp.einsum(indices, q, k, preferred_element_type="float32")
  return jnp.where(mask, scores, -1e30)


def _mix(indices, weights, v, shape):
  out = jnp.einsum(
    indices, weights.astype(v.dtype), v, preferred_element_type="float32"
  )
  return out.reshape(shape)


def heads_first(x_BTKH: Float[Array, "B T K H"], dtype: Any) -> Array:
  """[B, K, T, H]: a head's keys lie side by side."""
  return jnp.swapaxes(x_BTKH, 1, 2).astype(dtype)


@functools.partial(jax.jit, static_argnames="mesh", donate_argnums=0)
def place(
  cache: Cache,
  made: Cache,
  source_N: Int[Array, " N"],
  slot_N: Int[Array, " N"],
  *,
  mesh: Mesh,
) -> Cache:
  """Puts prefilled keys and values at the beginning of slots.

  Args:
    made: [G, K, Q, H] a layer.
    source_N: which of G each entry takes.
    slot_N: where it goes; out of range for entries that go nowhere.
  """

  def one(slots_BKTH, made_GKQH):
    Q = min(made_GKQH.shape[2], slots_BKTH.shape[2])
    made_NKQH = made_GKQH[source_N, :, :Q]
    return slots_BKTH.at[slot_N, :, :Q].set(made_NKQH, mode="drop")

  return constrain(jax.tree.map(one, cache, made), mesh, SLOTS)
