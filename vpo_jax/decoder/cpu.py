"""Workarounds that make XLA fast at bfloat16 and int8 on CPUs; harmless elsewhere.

The callers are correct without them. Measurements are in
docs/performance.md.
"""

import jax
import jax.numpy as jnp
from jax.experimental import layout
from jaxtyping import Array, Float


def transpose_by_rows(x: Float[Array, "a b"]) -> Float[Array, "b a"]:
  """x.T, written out row by row, for the left operand of a product.

  XLA's fast bfloat16 products on CPUs need a row-major left operand. If XLA folds the
  transpose into the product, the product runs in float32 at 0.4 of the rate; writing
  the transpose out costs a tenth of the product's time. The partitioner does not handle
  layout constraints (it would gather x), so only a single device uses one.
  """
  if jax.device_count() > 1:
    return x.T
  by_rows = layout.Layout((0, 1))

  def on_cpu(x):
    return layout.with_layout_constraint(x.T, by_rows)

  return jax.lax.platform_dependent(x, cpu=on_cpu, default=jnp.transpose)


def to_bits(x: Array) -> Array:
  """bfloat16 as uint16; other types unchanged.

  XLA for CPUs appends a bfloat16 array to a loop's stack by converting the whole stack
  to float32 and back. It copies integers as they are.
  """
  if x.dtype != jnp.bfloat16:
    return x
  return jax.lax.bitcast_convert_type(x, jnp.uint16)


def from_bits(bits: Array, dtype: jnp.dtype) -> Array:
  """The inverse of `to_bits`."""
  if dtype != jnp.bfloat16:
    return bits
  return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


def sums_one_row(x_BI: Array) -> bool:
  """Whether `one_row_product` is the faster product: a single bfloat16 row."""
  return x_BI.shape[0] == 1 and x_BI.dtype == jnp.bfloat16


def one_row_product(x_1I: Array, w_OI: Array, result: str) -> Array:
  """x @ w.T of one row as a sum that reads the bfloat16 weights once, unconverted.

  XLA for CPUs would convert all weights to float32 before a product. The barrier keeps
  it from hoisting that conversion out of the decode loop.
  """
  w_OI, x_1I = jax.lax.optimization_barrier((w_OI, x_1I))
  return jnp.sum(w_OI.astype(result) * x_1I.astype(result), axis=1)[None]


def pad_one_int8_row(x_BI: Array) -> Array:
  """Pads a single int8 row to two: no CPU library kernel takes int8 with one row."""
  if x_BI.shape[0] == 1 and x_BI.dtype == jnp.int8:
    return jnp.pad(x_BI, ((0, 1), (0, 0)))
  return x_BI
