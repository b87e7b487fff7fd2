"""A block of decode steps on the device, one token a slot a step."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import matmul, model, table
from vpo_jax.sample import attention, cache, choose, prefill

NO_TOKEN = -1


@flax.struct.dataclass
class Slots:
  """What the device needs to know of B slots: arrays of B, of the host or the device.

  Attributes:
    token: the newest token, whose keys and values are not in the cache yet.
    place: where in the slot's own cache they go.
    drawn: tokens drawn so far, the number of the next draw.
    left: tokens that may still be drawn; 0 for a slot at rest.
    on_stem: the slot's prompt begins with the stem.
    stops: a stop token ends it.
    key, temperature, top_p, top_k: see `choose.choose`.
  """

  token: Any
  place: Any
  drawn: Any
  left: Any
  on_stem: Any
  stops: Any
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
    place=zeros(),
    drawn=zeros(),
    left=zeros(),
    on_stem=zeros(bool),
    stops=zeros(bool),
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
  """Draws up to `steps` tokens in every slot that is not at rest.

  A slot rests when it drew a stop token, when none is left to draw, or when its own
  cache is full; the block ends early when all rest.

  Args:
    own: of B slots or more; those behind the first B are left alone.

  Returns: the cache, and the tokens; `NO_TOKEN` where a slot was at rest.
  """
  B, T = slots.token.shape[0], own[0]["v"].shape[2]
  every = own
  own = jax.tree.map(lambda x: x[:B], every)
  start_B = jnp.where(slots.on_stem, prefill.length(stem), 0)
  stop_ids = jnp.asarray(stop, jnp.int32)
  rotation_table = model.rotations(jnp.arange(prefill.length(stem) + T)[None], config)

  def step(state):
    number, own, slots, tokens = state
    active_B = (slots.left > 0) & (slots.place < T)
    attend = _attend(slots, T)
    x_BLD, own = model.hidden(
      params,
      slots.token[:, None],
      (start_B + slots.place)[:, None],
      attend,
      config,
      cache=tuple(zip(own, stem or (None,) * len(own), strict=True)),
      dtype=dtype,
      rotation_table=rotation_table,
    )
    own = cache.constrain(own, mesh, cache.SLOTS)
    logits_BV = matmul.product(x_BLD[:, 0], model.head(params), jnp.dtype(dtype))
    token_B = _choose(logits_BV, slots)
    stopped_B = slots.stops & jnp.any(token_B[:, None] == stop_ids[None], axis=-1)
    slots = slots.replace(
      token=jnp.where(active_B, token_B, slots.token),
      place=slots.place + active_B.astype(jnp.int32),
      drawn=slots.drawn + active_B.astype(jnp.int32),
      left=jnp.where(active_B, jnp.where(stopped_B, 0, slots.left - 1), slots.left),
    )
    tokens = tokens.at[:, number].set(jnp.where(active_B, token_B, NO_TOKEN))
    return number + 1, own, slots, tokens

  def going(state):
    number, _, slots, _ = state
    return (number < steps) & jnp.any((slots.left > 0) & (slots.place < T))

  tokens = jnp.full((B, steps), NO_TOKEN, jnp.int32)
  state = (jnp.int32(0), own, slots, tokens)
  _, own, _, tokens = jax.lax.while_loop(going, step, state)
  if every[0]["v"].shape[0] > B:
    own = jax.tree.map(lambda x, first: x.at[:B].set(first), every, own)
  return own, tokens


@jax.jit
def begin(
  logits_UV: Float[Array, "U V"], source_B: Int[Array, " B"], slots: Slots
) -> Int[Array, " B"]:
  """The first token of B slots, each from its row of a prefill's logits."""
  return _choose(logits_UV[source_B], slots)


def _choose(logits_BV, slots: Slots):
  return choose.choose(
    logits_BV, slots.key, slots.drawn, slots.temperature, slots.top_p, slots.top_k
  )


def _attend(slots: Slots, T: int) -> model.Attend:
  """The newest token sees the stem, and its slot up to itself."""
  mask_BTS = (jnp.arange(T)[None] <= slots.place[:, None])[:, None]

  def attend(q, k, v, layer):
    own, stem = layer
    own = cache.write_token(own, k[:, 0], v[:, 0], slots.place)
    return attention.over_stem_and_slot(q, own, mask_BTS, stem, slots.on_stem), own

  return attend
