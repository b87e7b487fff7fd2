"""Keys and values of tokens that are given: the stem once, a query's tail once."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from vpo_jax.llama import config as llama_config
from vpo_jax.llama import model, table
from vpo_jax.sample import cache


def stem(
  params: table.Params,
  tokens: Sequence[int],
  config: llama_config.LlamaConfig,
  mesh: Mesh,
  dtype: str,
) -> cache.Cache | None:
  """The stem's keys and values, without a batch axis; None when it is empty.

  They are only read, and by products that are not thin: in `dtype`.
  """
  if not tokens:
    return None
  tokens_GQ = np.asarray([tokens], np.int32)
  made = tails(params, None, tokens_GQ, np.zeros(1, bool), config, mesh, dtype)
  return jax.tree.map(lambda x: x[0].astype(dtype), made)


@functools.partial(jax.jit, static_argnames=("config", "mesh", "dtype"))
def tails(
  params: table.Params,
  stem: cache.Cache | None,
  tokens_GQ: Int[Array, "G Q"],
  on_stem_G: Bool[Array, " G"],
  config: llama_config.LlamaConfig,
  mesh: Mesh,
  dtype: str,
) -> cache.Cache:
  """Keys and values of prompts' tails, as `cache.place` takes them.

  Args:
    tokens_GQ: padded at the end; what padding gives is never looked at.
    on_stem_G: whether the tail follows the stem, or is a whole prompt.
  """
  G, Q = tokens_GQ.shape
  mask = jnp.broadcast_to(jnp.tri(Q, dtype=bool)[None], (G, Q, Q))
  start_G = jnp.where(on_stem_G, length(stem), 0)

  def attend(q, k, v, shared) -> tuple[Any, cache.Layer]:
    made = cache.layer(k, v, dtype)
    return cache.attention(q, made, mask, shared, on_stem_G), made

  positions_GQ = start_G[:, None] + jnp.arange(Q)[None]
  _, made = model.hidden(
    params, tokens_GQ, positions_GQ, attend, config, cache=stem, dtype=dtype
  )
  return made


def length(stem: cache.Cache | None) -> int:
  return 0 if stem is None else stem[0]["v"].shape[1]
