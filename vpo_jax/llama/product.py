"""Matrix products with float32 results, in the precision the hardware is fast at."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(
  x: Float[Array, "*batch i"], w: Float[Array, "i o"], dtype: jnp.dtype
) -> Float[Array, "*batch o"]:
  """x @ w with operands in `dtype` and a float32 result, forward and backward.

  JAX's own derivative of a bfloat16 product with a float32 result multiplies the
  float32 cotangent as it is, so the two backward products, two thirds of the work,
  would leave the fast form.
  """
  return jnp.einsum(
    "...i,io->...o", *_cast(dtype, x, w), preferred_element_type="float32"
  )


def _forward(x, w, dtype):
  return product(x, w, dtype), (x.astype(dtype), w)


def _backward(dtype, saved, dy):
  x, w = saved
  x2, dy2 = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
  x2, w, dy2 = _cast(dtype, x2, w, dy2)
  dx = jnp.einsum("bo,io->bi", dy2, w, preferred_element_type="float32")
  dw = jnp.einsum("bi,bo->io", x2, dy2, preferred_element_type="float32")
  return dx.reshape(x.shape), dw


product.defvjp(_forward, _backward)


def _cast(dtype, *arrays):
  return tuple(a.astype(dtype) for a in arrays)
