"""How decoding stores weight matrices: transposed, and optionally in 8 bits."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vpo_jax.decoder import cpu, matmul


@flax.struct.dataclass
class Transposed(matmul.Matrix):
  """A matrix stored as [out, in], for products with few rows of x.

  As the left operand a CPU reads it in place. As the right one it is repacked at every
  product, which takes 1.1 to 1.6 times as long for 32 rows.
  """

  w: Any  # [out, in]; in a pytree, JAX also puts its own objects here

  def product(self, x, dtype):
    x_BI = x.reshape(-1, x.shape[-1]).astype(dtype)
    y_BO = _product(x_BI, self.w.astype(dtype), "float32")
    return y_BO.reshape(*x.shape[:-1], -1)


@flax.struct.dataclass
class Quantized(matmul.Matrix):
  """A matrix stored as [out, in] in int8, with a scale for each row.

  For decoding one row, where the time goes to reading the weights. x is quantized row
  by row as well.
  """

  w: Any  # int8 [out, in]
  scale: Any  # [out]

  def product(self, x, dtype):
    x_BI, scale_B1 = _quantize_rows(x.reshape(-1, x.shape[-1]))
    y_BO = _product(x_BI, self.w, "int32").astype(jnp.float32)
    y_BO = y_BO * scale_B1 * self.scale[None]
    return y_BO.reshape(*x.shape[:-1], -1)


@jax.jit
def quantize(w_OI: Float[Array, "o i"]) -> Quantized:
  """Rounds each row to 255 equal steps, symmetric around 0, up to its largest value."""
  w, scale_O1 = _quantize_rows(w_OI)
  return Quantized(w, scale_O1[:, 0])


def _quantize_rows(x):
  """Rows as int8, and each row's step size."""
  scale = jnp.max(jnp.abs(x), axis=-1, keepdims=True) / 127
  scale = jnp.where(scale == 0, 1.0, scale)
  return jnp.round(x / scale).astype(jnp.int8), scale


def _product(x_BI, w_OI, result):
  if cpu.sums_one_row(x_BI):
    return cpu.one_row_product(x_BI, w_OI, result)
  y_OB = matmul.einsum("oi,bi->ob", w_OI, cpu.pad_one_int8_row(x_BI), result)
  # Without the barrier XLA folds the transpose into the product and swaps its operands.
  return jax.lax.optimization_barrier(y_OB).T[: x_BI.shape[0]]
