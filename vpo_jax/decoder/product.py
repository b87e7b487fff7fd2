"""Matrix products with float32 results, in the precision the hardware is fast at."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import ad_checkpoint
from jax.experimental import layout
from jaxtyping import Array, Float, Int8

KEPT = "kept"


def einsum(spec: str, a: Array, b: Array, result: str = "float32") -> Array:
  """`jnp.einsum` with sums in `result`, and of float32 operands all their bits.

  Left to itself, a GPU multiplies those as TF32, with 11 bits, and a TPU as bfloat16.
  """
  precision = "highest" if a.dtype == jnp.float32 else None
  return jnp.einsum(spec, a, b, precision=precision, preferred_element_type=result)


@jax.custom_jvp
def kept(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """x, marked as what a layer keeps where its backward pass computes the rest again.

  bfloat16 is kept as integers: on a CPU, XLA would turn the whole stack of all layers
  to float32 and back for each layer that is added.
  """
  return marked(x)


@kept.defjvp
def _kept_jvp(primals, tangents):
  return marked(*primals), tangents[0]


def marked(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """`kept` without a derivative, for what a custom one saves."""
  if x.dtype != jnp.bfloat16:
    return ad_checkpoint.checkpoint_name(x, KEPT)
  bits = jax.lax.bitcast_convert_type(x, jnp.uint16)
  bits = ad_checkpoint.checkpoint_name(bits, KEPT)
  return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
  """A matrix kept as [out, in], for products with few rows of x (a decode).

  With it on the left, a CPU reads it in place; on the right it is packed anew at every
  product, which takes 1.1 to 1.6 times as long for 32 rows.
  """

  w: Float[Array, "o i"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantized:
  """A matrix as [out, in] in 8 bits: a row is `w` times its `scale`.

  For a decode of one row, whose time is that of reading the weights.
  """

  w: Int8[Array, "o i"]
  scale: Float[Array, " o"]


@jax.jit
def quantized(w_OI: Float[Array, "o i"]) -> Quantized:
  """The nearest of 255 steps, which a row's largest number sets, around 0."""
  w, scale_O1 = _steps(w_OI)
  return Quantized(w, scale_O1[:, 0])


def _steps(x):
  """Rows as int8, and the size of a row's step."""
  scale = jnp.max(jnp.abs(x), axis=-1, keepdims=True) / 127
  scale = jnp.where(scale == 0, 1.0, scale)
  return jnp.round(x / scale).astype(jnp.int8), scale


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Adapted:
  """A matrix with LoRA's two thin ones beside it: w + scale * a @ b."""

  w: Float[Array, "i o"]
  a: Float[Array, "i r"]
  b: Float[Array, "r o"]
  scale: float = dataclasses.field(metadata={"static": True})


def product(
  x: Float[Array, "*batch i"],
  w: Float[Array, "i o"] | Rows | Quantized | Adapted,
  dtype: jnp.dtype,
) -> Float[Array, "*batch o"]:
  """x @ w with operands in `dtype` and a float32 result, forward and backward.

  Where w is in 8 bits, so are x's rows, each in steps of its own.
  """
  if isinstance(w, Rows):
    return _rows(x, w.w, dtype)
  if isinstance(w, Quantized):
    x_BI, scale_B1 = _steps(x.reshape(-1, x.shape[-1]))
    y_BO = _by_rows(x_BI, w.w, "int32").astype(jnp.float32)
    y_BO = y_BO * scale_B1 * w.scale[None]
    return y_BO.reshape(*x.shape[:-1], -1)
  if isinstance(w, Adapted):
    low: Any = columns(columns(x, w.a, dtype), w.b, dtype)
    return columns(x, w.w, dtype) + w.scale * low
  return columns(x, w, dtype)


def _rows(x, w, dtype):
  x_BI, w_OI = _cast(dtype, x.reshape(-1, x.shape[-1]), w)
  return _by_rows(x_BI, w_OI, "float32").reshape(*x.shape[:-1], -1)


def _by_rows(x_BI, w_OI, result):
  B = x_BI.shape[0]
  if B == 1 and x_BI.dtype == jnp.bfloat16:
    # A product of one row is a pass over the weights. XLA for CPUs would turn them to
    # float32 first; a sum reads them as they are, faster than a product of two rows.
    # Behind the barrier, since it would take that out of a decode's loop, too.
    w_OI, x_BI = jax.lax.optimization_barrier((w_OI, x_BI))
    return jnp.sum(w_OI.astype(result) * x_BI.astype(result), axis=1)[None]
  if B == 1 and x_BI.dtype == jnp.int8:
    x_BI = jnp.pad(x_BI, ((0, 1), (0, 0)))  # one row is no library's product
  y_OB = einsum("oi,bi->ob", w_OI, x_BI, result)
  # Without the barrier XLA folds the transposition into the product, and swaps it.
  return jax.lax.optimization_barrier(y_OB).T[:B]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def columns(x, w, dtype):
  """x @ w with operands in `dtype` and a float32 result, forward and backward.

  JAX's own derivative of a bfloat16 product with a float32 result multiplies the
  float32 cotangent as it is, so the two backward products, two thirds of the work,
  would leave the fast form.
  """
  return einsum("...i,io->...o", *_cast(dtype, x, w))


def _forward(x, w, dtype):
  return columns(x, w, dtype), (x.astype(dtype), w)


def gradients(dtype, saved, dy):
  x, w = saved
  x2, dy2 = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
  x2, w, dy2 = _cast(dtype, x2, w, dy2)
  dx = einsum("bo,io->bi", dy2, w)
  dw = einsum("ib,bo->io", transposed(x2), dy2)
  return dx.reshape(x.shape), dw


columns.defvjp(_forward, gradients)


def _cast(dtype, *arrays):
  return tuple(a.astype(dtype) for a in arrays)


def transposed(x: Float[Array, "a b"]) -> Float[Array, "b a"]:
  """x.T as the left operand of a product, written out row by row.

  XLA's fast bfloat16 products on CPUs read their left operand by rows only. Left to
  itself XLA folds the exchange into the product, which then runs in float32, at 0.4 of
  the rate; the exchange itself is a tenth of the product's time. A constraint on the
  layout is not partitioned (all of x would be gathered), so only one device has it.
  """
  if jax.device_count() > 1:
    return x.T
  by_rows = layout.Layout((0, 1))

  def on_cpu(x):
    return layout.with_layout_constraint(x.T, by_rows)

  return jax.lax.platform_dependent(x, cpu=on_cpu, default=jnp.transpose)
