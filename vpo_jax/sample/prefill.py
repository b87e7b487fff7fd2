"""Keys and values of tokens that are given: the stem once, a query's tail once."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import matmul, model, table
from vpo_jax.sample import attention, cache


def stem(
  params: table.Params,
  tokens: Sequence[int],
  config: decoder_config.DecoderConfig,
  mesh: Mesh,
  dtype: str,
) -> cache.Cache | None:
  """The stem's keys and values, without a batch axis; None when it is empty.

  They are only read, and by products that are not thin: in `dtype`.
  """
  if not tokens:
    return None
  alone_T = np.zeros(len(tokens), np.int32)
  place_T = np.arange(len(tokens), dtype=np.int32)
  tokens_T = np.asarray(tokens, np.int32)
  made, _ = chunk(
    params,
    None,
    tokens_T,
    alone_T,
    place_T,
    np.zeros(1, np.int32),
    np.bool_(False),
    config,
    mesh,
    dtype,
  )
  return jax.tree.map(lambda x: x.astype(dtype), made)


@functools.partial(jax.jit, static_argnames=("config", "mesh", "dtype"))
def chunk(
  params: table.Params,
  stem: cache.Cache | None,
  tokens_T: Int[Array, " T"],
  tail_T: Int[Array, " T"],
  place_T: Int[Array, " T"],
  last_U: Int[Array, " U"],
  on_stem: Bool[Array, ""],
  config: decoder_config.DecoderConfig,
  mesh: Mesh,
  dtype: str,
) -> tuple[cache.Cache, Float[Array, "U V"]]:
  """Keys and values, without a batch axis, of several prompts' tails in one row.

  Args:
    tail_T: which tail a token belongs to; padding is one of its own.
    place_T: where in its tail a token stands.
    last_U: where in the row the tails end.
    on_stem: whether the tails follow the stem, or are whole prompts.

  Returns: the keys and values, and the logits of what follows each tail.
  """
  T = tokens_T.shape[0]
  mask = (tail_T[:, None] == tail_T[None]) & jnp.tri(T, dtype=bool)
  start = jnp.where(on_stem, length(stem), 0)

  def attend(q, k, v, shared) -> tuple[Any, cache.Layer]:
    made = cache.new_layer(k, v, dtype)
    out = attention.over_stem_and_slot(q, made, mask[None], shared, on_stem[None])
    return out, made

  x_1TD, made = model.hidden(
    params, tokens_T[None], (start + place_T)[None], attend, config, cache=stem,
    dtype=dtype,
  )  # fmt: skip
  head = model.head(params)
  logits_UV = matmul.product(x_1TD[0, last_U], head, jnp.dtype(dtype))
  return jax.tree.map(lambda x: x[0], made), logits_UV


def length(stem: cache.Cache | None) -> int:
  return 0 if stem is None else stem[0]["v"].shape[1]
