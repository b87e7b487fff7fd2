"""Prefill: the keys and values of the stem, and of the tails of prompts."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import model, table, window
from vpo_jax.sample import attention, cache


def stem(
  params: table.Params,
  tokens: Sequence[int],
  config: decoder_config.DecoderConfig,
  dtype: str,
) -> cache.Cache | None:
  """Keys and values of the stem, without a batch axis; None if the stem is empty.

  They are stored in `dtype` on a CPU too, because they are never updated and their
  products are large (see `cache.storage_dtype`).
  """
  if not tokens:
    return None
  tail_T = np.zeros(len(tokens), np.int32)
  position_T = np.arange(len(tokens), dtype=np.int32)
  tokens_T = np.asarray(tokens, np.int32)
  keys_and_values, _ = chunk(
    params,
    None,
    tokens_T,
    tail_T,
    position_T,
    np.zeros(1, np.int32),
    np.bool_(False),
    config,
    dtype,
  )
  return jax.tree.map(lambda x: x.astype(dtype), keys_and_values)


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def chunk(
  params: table.Params,
  stem: cache.Cache | None,
  tokens_T: Int[Array, " T"],
  tail_T: Int[Array, " T"],
  position_T: Int[Array, " T"],
  last_U: Int[Array, " U"],
  on_stem: Bool[Array, ""],
  config: decoder_config.DecoderConfig,
  dtype: str,
) -> tuple[cache.Cache, Float[Array, "U V"]]:
  """Keys and values of the tails of several prompts, packed into one row.

  Args:
    params: of the model.
    stem: the stem's cache, or None.
    tokens_T: the tails' tokens, one after the other.
    tail_T: index of each token's tail; padding has an index of its own.
    position_T: position of each token in its tail.
    last_U: index in the row of each tail's last token.
    on_stem: whether the tails follow the stem or are complete prompts.
    config: of the model.
    dtype: operand type of the matrix products.

  Returns:
    keys and values without a batch axis, and the logits of the token after each tail.
  """
  T = tokens_T.shape[0]
  mask = (tail_T[:, None] == tail_T[None]) & jnp.tri(T, dtype=bool)
  position_1T = (jnp.where(on_stem, length(stem), 0) + position_T)[None]
  longest = length(stem) + T
  masks = window.masks(config, mask[None], position_1T, position_1T, longest)
  stem_1Z = jnp.arange(length(stem))[None]
  stem_masks = window.masks(
    config, on_stem[None, None, None], position_1T, stem_1Z, longest
  )

  def attend(q, k, v, shared, kind) -> tuple[Any, cache.Layer]:
    new = cache.new_layer(k, v, dtype)
    mask, stem_mask = masks[kind], stem_masks[kind]
    out = attention.over_stem_and_slot(
      q, new, mask, shared, stem_mask, config.score_cap
    )
    return out, new

  x_1TD, keys_and_values = model.hidden(
    params, tokens_T[None], position_1T, attend, config, cache=stem, dtype=dtype
  )
  logits_UV = model.logits(params, x_1TD[0, last_U], config, dtype)
  return jax.tree.map(lambda x: x[0], keys_and_values), logits_UV


def length(stem: cache.Cache | None) -> int:
  """Number of tokens in the stem."""
  return 0 if stem is None else stem[0]["v"].shape[1]
