"""How decoding stores weight matrices: transposed, and optionally in 8 bits."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import cpu, matmul, model, sharding, table, weights


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


def load(
  folder: epath.PathLike,
  config: decoder_config.DecoderConfig,
  mesh: Mesh,
  precision: str,
) -> table.Params:
  """Loads parameters for decoding; each device gets its own part.

  Layers are a tuple. Most files have a layer's tensors apart and matrices as [out, in],
  so that nothing is transposed. Only one tensor is in memory twice at a time.

  Args:
    folder: see `weights.load`.
    config: from `config.read`.
    mesh: the devices.
    precision: of the matrices: "float32", "bfloat16" or "int8".

  Returns: the parameters, with matrices as `Transposed` or `Quantized`, and with a head
    also if it is tied to the embedding.

  Raises:
    UserError: as `weights.load`.
  """
  dtype = "float32" if precision == "int8" else precision
  stored = quantize if precision == "int8" else Transposed
  tree, shardings = table.table(config), sharding.params(config, mesh)
  where = weights.find_tensors(epath.Path(folder), tree)

  def one(hf_name: str, transposed: bool, placing: NamedSharding) -> jax.Array:
    tensor = where[hf_name]
    return weights.place(
      tensor.shape[::-1] if transposed else tensor.shape,
      placing,
      lambda index: weights.read_tensor(tensor, index, transposed, dtype),
    )

  def in_layers(name: str, weight: table.Weight) -> list[Any]:
    _, *spec = shardings["layers"][name].spec
    names = weights.hf_names(weight)
    if len(weight.shape) < 3:
      placing = NamedSharding(mesh, PartitionSpec(*spec))
      return [one(hf_name, False, placing) for hf_name in names]
    placing = NamedSharding(mesh, PartitionSpec(*reversed(spec)))
    return [stored(one(hf_name, not weight.transposed, placing)) for hf_name in names]

  params = {
    name: one(weight.hf_name, weight.transposed, shardings[name])
    for name, weight in tree.items()
    if name != "layers"
  }
  by_name = {name: in_layers(name, weight) for name, weight in tree["layers"].items()}
  layers = zip(*by_name.values(), strict=True)
  return params | {
    "head": stored(model.head(params)),
    "layers": tuple(dict(zip(by_name, layer, strict=True)) for layer in layers),
  }


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
