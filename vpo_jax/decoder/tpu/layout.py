"""The paths of a packed forest as the TPU's kernels read them, block by block."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from vpo_jax.decoder import paths as paths_lib

BLOCK = 256  # tokens of a block of queries, and of keys; ours
_NO_WINDOW = 2**30


@flax.struct.dataclass
class Layout:
  """The paths of B rows for one window; i and j are blocks of queries and of keys.

  The fields have no annotations because JAX also fills the pytree with objects of its
  own.

  Attributes:
    query_BT3: code, code of the trunk and depth of each query, padded to whole blocks.
    key_B2S: code and depth of each key, padded to whole blocks.
    visited_Bij: 1 where any query of a block attends to any key of a block, else 0.
    keys_Bij: the block of keys to have in memory: the last visited one, so that a
      skipped block is not read.
    queries_Bji: the block of queries to have in memory, if the blocks of keys are in
      the outer loop.
    window: most tokens that a query attends to; int32 [1].
  """

  query_BT3: Any
  key_B2S: Any
  visited_Bij: Any
  keys_Bij: Any
  queries_Bji: Any
  window: Any


def make(
  paths: paths_lib.Paths, window: int | None = None, block: int = BLOCK
) -> Layout:
  """The layout of `paths` for layers with this window."""

  def pad(x: Array, value: int) -> Array:
    size = -x.shape[1] % block
    return jnp.pad(x, ((0, 0), (0, size)), constant_values=value)

  padded = paths_lib.Paths(
    query_BT=pad(paths.query_BT, paths_lib.OUTSIDE),
    trunk_BT=pad(paths.trunk_BT, paths_lib.OUTSIDE),
    key_BS=pad(paths.key_BS, paths_lib.NEVER),
    query_depth_BT=pad(paths.query_depth_BT, 0),
    key_depth_BS=pad(paths.key_depth_BS, _NO_WINDOW),
  )
  mask = padded.mask(window)  # XLA fuses it with the reduction below
  B, T, S = mask.shape
  blocks = mask.reshape(B, T // block, block, S // block, block)
  visited_Bij = blocks.any(axis=(2, 4))
  return Layout(
    query_BT3=jnp.stack(
      [padded.query_BT, padded.trunk_BT, padded.query_depth_BT], axis=2
    ),
    key_B2S=jnp.stack([padded.key_BS, padded.key_depth_BS], axis=1),
    visited_Bij=visited_Bij.astype(jnp.int32),
    keys_Bij=_fetched(visited_Bij),
    queries_Bji=_fetched(jnp.swapaxes(visited_Bij, 1, 2)),
    window=jnp.full((1,), _NO_WINDOW if window is None else window, jnp.int32),
  )


def _fetched(visited: Bool[Array, "B i j"]) -> Int[Array, "B i j"]:
  """The last visited block at each step of the last axis; the first before it."""
  step = jnp.arange(visited.shape[2], dtype=jnp.int32)[None, None]
  last = jax.lax.cummax(jnp.where(visited, step, -1), axis=2)
  first = jnp.argmax(visited, axis=2, keepdims=True).astype(jnp.int32)
  return jnp.where(last < 0, first, last)
