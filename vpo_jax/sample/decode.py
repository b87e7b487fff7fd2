"""A block of decode steps on the device; each step draws one token per slot."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import model, table, window
from vpo_jax.sample import attention, cache, choose, prefill

NO_TOKEN = -1


@flax.struct.dataclass
class Slots:
  """State of B slots, as arrays with leading axis B on the host or the device.

  Attributes:
    token: the newest token; its keys and values are not in the cache yet.
    position: position of that token in the slot's cache.
    drawn: number of tokens drawn, which is the index of the next draw.
    remaining: number of tokens that may still be drawn; 0 for an idle slot.
    on_stem: whether the slot's prompt begins with the stem.
    ends_at_stop: whether a stop token ends the candidate.
    key, temperature, top_p, top_k: see `choose.choose`.
  """

  token: Any
  position: Any
  drawn: Any
  remaining: Any
  on_stem: Any
  ends_at_stop: Any
  key: Any
  temperature: Any
  top_p: Any
  top_k: Any


def idle(slots: int) -> Slots:
  """Slots without a job, as host arrays that the scheduler changes in place."""

  def zeros(dtype: Any = np.int32, shape: tuple[int, ...] = ()) -> np.ndarray:
    return np.zeros((slots, *shape), dtype)

  return Slots(
    token=zeros(),
    position=zeros(),
    drawn=zeros(),
    remaining=zeros(),
    on_stem=zeros(bool),
    ends_at_stop=zeros(bool),
    key=zeros(np.uint32, (2,)),
    temperature=zeros(np.float32),
    top_p=np.ones(slots, np.float32),
    top_k=zeros(),
  )


@functools.partial(
  jax.jit,
  static_argnames=("steps", "stop", "config", "mesh", "dtype"),
  donate_argnames=("own",),
)
def block(
  params: table.Params,
  stem: cache.Cache | None,
  own: cache.Cache,
  slots: Slots,
  *,
  steps: int,
  stop: tuple[int, ...],
  config: decoder_config.DecoderConfig,
  mesh: Mesh,
  dtype: str,
) -> tuple[cache.Cache, Int[Array, "B steps"]]:
  """Draws up to `steps` tokens in every active slot.

  A slot becomes inactive when it draws a stop token, when no token remains to be drawn,
  or when its cache is full. The block ends early if all slots are inactive.

  Args:
    params: of the model, with layers as a tuple (`lm.load`).
    stem: the stem's cache.
    own: the slots' cache; has B slots or more, of which the first B are used. Donated.
    slots: state of the B slots.
    steps: maximum number of steps.
    stop: stop tokens.
    config: of the model.
    mesh: of parameters and caches.
    dtype: operand type of the matrix products.

  Returns:
    the slots' cache, and the drawn tokens, with `NO_TOKEN` where a slot was inactive.
  """
  B, S = slots.token.shape[0], own[0]["v"].shape[2]
  all_slots = own
  own = jax.tree.map(lambda x: x[:B], all_slots)
  start_B = jnp.where(slots.on_stem, prefill.length(stem), 0)
  stop_ids = jnp.asarray(stop, jnp.int32)
  rotation_table = model.rotations(jnp.arange(prefill.length(stem) + S)[None], config)

  def step(state):
    index, own, slots, tokens = state
    active_B = (slots.remaining > 0) & (slots.position < S)
    attend = _attend(config, slots, prefill.length(stem), S)
    x_BTD, own = model.hidden(
      params,
      slots.token[:, None],
      (start_B + slots.position)[:, None],
      attend,
      config,
      cache=tuple(zip(own, stem or (None,) * len(own), strict=True)),
      dtype=dtype,
      rotation_table=rotation_table,
    )
    own = cache.constrain(own, mesh, cache.SLOTS)
    logits_BV = model.logits(params, x_BTD[:, 0], config, dtype)
    token_B = _choose(logits_BV, slots, mesh)
    is_stop_B = jnp.any(token_B[:, None] == stop_ids[None], axis=-1)
    ended_B = slots.ends_at_stop & is_stop_B
    remaining_B = jnp.where(ended_B, 0, slots.remaining - 1)
    slots = slots.replace(
      token=jnp.where(active_B, token_B, slots.token),
      position=slots.position + active_B.astype(jnp.int32),
      drawn=slots.drawn + active_B.astype(jnp.int32),
      remaining=jnp.where(active_B, remaining_B, slots.remaining),
    )
    tokens = tokens.at[:, index].set(jnp.where(active_B, token_B, NO_TOKEN))
    return index + 1, own, slots, tokens

  def any_active(state):
    index, _, slots, _ = state
    return (index < steps) & jnp.any((slots.remaining > 0) & (slots.position < S))

  tokens = jnp.full((B, steps), NO_TOKEN, jnp.int32)
  state = (jnp.int32(0), own, slots, tokens)
  _, own, _, tokens = jax.lax.while_loop(any_active, step, state)
  if all_slots[0]["v"].shape[0] > B:
    own = jax.tree.map(lambda x, first: x.at[:B].set(first), all_slots, own)
  return own, tokens


@functools.partial(jax.jit, static_argnames="mesh")
def first_tokens(
  logits_UV: Float[Array, "U V"], tail_B: Int[Array, " B"], slots: Slots, mesh: Mesh
) -> Int[Array, " B"]:
  """Draws the first token of B slots, from the logits of their tails in a prefill."""
  return _choose(logits_UV[tail_B], slots, mesh)


def _choose(logits_BV, slots: Slots, mesh: Mesh):
  settings = slots.key, slots.drawn, slots.temperature, slots.top_p, slots.top_k
  return choose.choose(logits_BV, *settings, split=mesh.shape["tensor"] > 1)


def _attend(
  config: decoder_config.DecoderConfig, slots: Slots, Z: int, S: int
) -> model.Attend:
  """Attention of the newest token to the stem's Z tokens, and to its slot's S."""
  masks = functools.partial(window.masks, config, longest=Z + S)
  position_B1, key_1S = slots.position[:, None], jnp.arange(S)[None]
  written_BTS = (key_1S <= position_B1)[:, None]
  own_masks = masks(written_BTS, position_B1, key_1S)
  on_stem_BTZ = slots.on_stem[:, None, None]
  stem_masks = masks(on_stem_BTZ, Z + position_B1, jnp.arange(Z)[None])

  def attend(q, k, v, layer, kind):
    own, stem = layer
    own = cache.write_token(own, k[:, 0], v[:, 0], slots.position)
    out = attention.over_stem_and_slot(
      q, own, own_masks[kind], stem, stem_masks[kind], config.score_cap
    )
    return out, own

  return attend
