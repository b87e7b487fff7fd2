"""Matrix products with float32 results, in the precision the hardware is fast at."""

import abc
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vpo_jax.decoder import cpu


def einsum(spec: str, a: Array, b: Array, result: str = "float32") -> Array:
  """`jnp.einsum` that accumulates in `result` and rounds no float32 operand.

  By default, a GPU rounds float32 operands to TF32 (11 bits) and a TPU to bfloat16.
  """
  precision = "highest" if a.dtype == jnp.float32 else None
  return jnp.einsum(spec, a, b, precision=precision, preferred_element_type=result)


class Matrix(abc.ABC):
  """A weight matrix that is not stored as one [in, out] array.

  `decode_weights` has the forms for decoding, `lora.Adapted` that for LoRA training.
  """

  @abc.abstractmethod
  def product(
    self, x: Float[Array, "*batch i"], dtype: jnp.dtype
  ) -> Float[Array, "*batch o"]:
    """x @ w with operands in `dtype` and a float32 result."""


def product(
  x: Float[Array, "*batch i"], w: Float[Array, "i o"] | Matrix, dtype: jnp.dtype
) -> Float[Array, "*batch o"]:
  """x @ w with operands in `dtype` and a float32 result, forward and backward."""
  if isinstance(w, Matrix):
    return w.product(x, dtype)
  return dense(x, w, dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def dense(x, w, dtype):
  """`product` for a plain array, with gradients whose operands are in `dtype` too.

  JAX's own derivative of a bfloat16 product with a float32 result leaves the cotangent
  in float32, so the two backward products (two thirds of the work) would run in it.
  """
  return einsum("...i,io->...o", x.astype(dtype), w.astype(dtype))


def _forward(x, w, dtype):
  return dense(x, w, dtype), (x.astype(dtype), w)


def gradients(dtype, saved, dy):
  """Gradients of `dense` with respect to x and w, given `saved` = (x, w)."""
  x, w = saved
  x_BI, dy_BO = (a.reshape(-1, a.shape[-1]).astype(dtype) for a in (x, dy))
  w_IO = w.astype(dtype)
  dx_BI = einsum("bo,io->bi", dy_BO, w_IO)
  dw_IO = einsum("ib,bo->io", cpu.transpose_by_rows(x_BI), dy_BO)
  return dx_BI.reshape(x.shape), dw_IO


dense.defvjp(_forward, gradients)
