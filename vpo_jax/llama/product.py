"""Matrix products with float32 results, in the precision the hardware is fast at."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


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
class Adapted:
  """A matrix with LoRA's two thin ones beside it: w + scale * a @ b."""

  w: Float[Array, "i o"]
  a: Float[Array, "i r"]
  b: Float[Array, "r o"]
  scale: float = dataclasses.field(metadata={"static": True})


def product(
  x: Float[Array, "*batch i"], w: Float[Array, "i o"] | Rows | Adapted, dtype: jnp.dtype
) -> Float[Array, "*batch o"]:
  """x @ w with operands in `dtype` and a float32 result, forward and backward."""
  if isinstance(w, Rows):
    return _rows(x, w.w, dtype)
  if isinstance(w, Adapted):
    low: Any = _columns(_columns(x, w.a, dtype), w.b, dtype)
    return _columns(x, w.w, dtype) + w.scale * low
  return _columns(x, w, dtype)


def _rows(x, w, dtype):
  x_BI, w_OI = _cast(dtype, x.reshape(-1, x.shape[-1]), w)
  B = x_BI.shape[0]
  if B == 1 and dtype == jnp.bfloat16:
    # Of a product with one row XLA makes one in float32 on CPUs, 40 times slower.
    x_BI = jnp.pad(x_BI, ((0, 1), (0, 0)))
  y_OB = jnp.einsum("oi,bi->ob", w_OI, x_BI, preferred_element_type="float32")
  # Without the barrier XLA folds the transposition into the product, and swaps it.
  y_BO = jax.lax.optimization_barrier(y_OB).T[:B]
  return y_BO.reshape(*x.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _columns(x, w, dtype):
  """x @ w with operands in `dtype` and a float32 result, forward and backward.

  JAX's own derivative of a bfloat16 product with a float32 result multiplies the
  float32 cotangent as it is, so the two backward products, two thirds of the work,
  would leave the fast form.
  """
  return jnp.einsum(
    "...i,io->...o", *_cast(dtype, x, w), preferred_element_type="float32"
  )


def _forward(x, w, dtype):
  return _columns(x, w, dtype), (x.astype(dtype), w)


def _backward(dtype, saved, dy):
  x, w = saved
  x2, dy2 = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
  x2, w, dy2 = _cast(dtype, x2, w, dy2)
  dx = jnp.einsum("bo,io->bi", dy2, w, preferred_element_type="float32")
  dw = jnp.einsum("bi,bo->io", x2, dy2, preferred_element_type="float32")
  return dx.reshape(x.shape), dw


_columns.defvjp(_forward, _backward)


def _cast(dtype, *arrays):
  return tuple(a.astype(dtype) for a in arrays)
