"""How the programs of a kernel go through the pairs of blocks of a layout.

Shape letters as in `kernels`.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from vpo_jax.decoder.tpu.layout import BLOCK, Layout


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a kernel is compiled for.

  Attributes:
    dtype: operand type of the matrix products.
    cap: bound of the scores; see `soft_cap`.
    block: as in `layout`.
    interpret: whether to run the kernel without a TPU, slowly.
  """

  dtype: str
  cap: float | None = None
  block: int = BLOCK
  interpret: bool = False


@dataclasses.dataclass(frozen=True)
class Order:
  """The order in which the programs of a kernel visit pairs of blocks.

  The grid is (row, key-value head, outer block, inner block); a program has all query
  heads of a key-value head.

  Attributes:
    by_query: whether the outer blocks are of queries and the inner ones of keys.
    visited: int32 [B, outer, inner].
    fetched: the inner block to have in memory, likewise.
  """

  by_query: bool
  visited: Any
  fetched: Any

  @classmethod
  def of(cls, layout: Layout, by_query: bool) -> "Order":
    visited = layout.visited_Bij
    if by_query:
      return cls(True, visited, layout.keys_Bij)
    return cls(False, jnp.swapaxes(visited, 1, 2), layout.queries_Bji)

  def index(self, of_queries: bool, rank: int):
    """The index map of an array of queries or keys: heads and tokens, or codes."""
    _, outer_blocks, inner_blocks = self.visited.shape

    def index(b, k, outer, inner, visited_ref, fetched_ref, window_ref):
      block = outer
      if of_queries != self.by_query:
        block = fetched_ref[(b * outer_blocks + outer) * inner_blocks + inner]
      if rank == 4:
        return b, k, block, 0
      return (b, block, 0) if of_queries else (b, 0, block)

    return index


def run(kernel, order, arrays, layout, results, scratch, products, settings):
  """Runs a kernel; returns its results, float32.

  Args:
    order: of the programs.
    arrays: inputs but the codes: queries, keys, values, and others of the queries.
    results: shape of each result; they are of what the outer blocks are of.
    scratch: shape of each accumulator, but its tokens.
    products: matrix products of a pair of blocks and a head, for the estimate of cost.
  """
  block, (B, N, _, H), K = settings.block, arrays[0].shape, arrays[1].shape[1]
  of_queries = [number not in (1, 2) for number in range(len(arrays))]

  def spec(shape, of_queries):
    heads = N // K if of_queries else 1
    return pl.BlockSpec((1, heads, block, shape[-1]), order.index(of_queries, 4))

  pairs = N * layout.visited_Bij.size
  read = [  # inner blocks are read again for each outer block
    array.nbytes * (1 if of == order.by_query else order.visited.shape[1])
    for array, of in zip(arrays, of_queries, strict=True)
  ]
  return pl.pallas_call(
    functools.partial(kernel, cap=settings.cap),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=3,
      grid=(B, K, *order.visited.shape[1:]),
      in_specs=[
        *(spec(a.shape, of) for a, of in zip(arrays, of_queries, strict=True)),
        pl.BlockSpec((1, block, 3), order.index(True, 3)),
        pl.BlockSpec((1, 2, block), order.index(False, 3)),
      ],
      out_specs=[spec(shape, order.by_query) for shape in results],
      scratch_shapes=[
        pltpu.VMEM((heads, block, width), jnp.float32) for heads, width in scratch
      ],
    ),
    out_shape=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in results],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel", "parallel", "arbitrary")
    ),
    cost_estimate=pl.CostEstimate(  # as if every pair of blocks were visited
      flops=2 * products * pairs * block * block * H,
      transcendentals=pairs * block * block,
      bytes_accessed=sum(read) + sum(4 * math.prod(shape) for shape in results),
    ),
    interpret=settings.interpret,
  )(
    order.visited.ravel(),
    order.fetched.ravel(),
    layout.window,
    *arrays,
    layout.query_BT3,
    layout.key_B2S,
  )
