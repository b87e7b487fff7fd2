"""The mesh, and the one table from logical axes to its axes."""

import dataclasses
import math
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vpo_jax import errors
from vpo_jax.llama import config as llama_config
from vpo_jax.llama import table

AXES = ("data", "fsdp", "tensor")

# ZeRO-3's split of the weights is `fsdp`; Megatron's is `tensor`.
RULES: dict[str | None, str | None] = {
  "vocab": "tensor",
  "model": "fsdp",
  "heads": "tensor",
  "kv_heads": "tensor",
  "ff": "tensor",
  "layers": None,
  None: None,
}

BATCH = PartitionSpec(("data", "fsdp"))  # groups of a micro-batch
REPLICATED = PartitionSpec()


def get_config() -> ml_collections.ConfigDict:
  """A mesh of one device; -1 stands for all the devices that the others leave."""
  return ml_collections.ConfigDict({"data": 1, "fsdp": 1, "tensor": 1})


def make_mesh(config: ml_collections.ConfigDict) -> Mesh:
  """Makes the mesh of `config`'s axis sizes.

  Raises:
    UserError: more devices asked for than there are, or sizes that do not divide them.
  """
  devices = jax.devices()
  sizes = {axis: int(config[axis]) for axis in AXES}
  if bad := [a for a, n in sizes.items() if n < 1 and n != -1]:
    raise errors.UserError(f"mesh.{bad[0]}={sizes[bad[0]]}: wants a size, or -1")
  free = [axis for axis, size in sizes.items() if size == -1]
  fixed = math.prod(size for size in sizes.values() if size != -1)
  if len(free) > 1:
    raise errors.UserError(f"mesh: only one axis can be -1, not {' and '.join(free)}")
  if free:
    if len(devices) % fixed:
      raise errors.UserError(f"mesh: {fixed} does not divide {len(devices)} devices")
    sizes[free[0]] = len(devices) // fixed
  wanted = math.prod(sizes.values())
  if wanted > len(devices):
    raise errors.UserError(
      f"mesh {sizes} wants {wanted} devices, there are {len(devices)}"
      f" ({devices[0].platform})"
    )
  return jax.make_mesh(
    tuple(sizes.values()),
    AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * len(AXES),
    devices=devices[:wanted],
  )


def groups(mesh: Mesh) -> int:
  """How many ways the batch is split."""
  return mesh.shape["data"] * mesh.shape["fsdp"]


def params(config: llama_config.LlamaConfig, mesh: Mesh) -> Any:
  """The sharding of every parameter, in the parameters' own structure.

  Raises:
    UserError: a mesh axis does not divide the dimension it would split.
  """
  sizes = {"heads": config.heads, "kv_heads": config.kv_heads}

  def one(weight: table.Weight) -> NamedSharding:
    for axis, size in zip(weight.axes, weight.shape, strict=True):
      over = RULES[axis]
      size = sizes.get(str(axis), size)  # heads are never cut through
      if over and size % mesh.shape[over]:
        raise errors.UserError(
          f"mesh.{over}={mesh.shape[over]} does not divide the model's {axis} ({size})"
        )
    return NamedSharding(mesh, PartitionSpec(*(RULES[axis] for axis in weight.axes)))

  return jax.tree.map(one, table.table(config))


@dataclasses.dataclass(frozen=True)
class Placement:
  """A mesh with the shardings that every step needs."""

  mesh: Mesh
  params: Any

  @property
  def batch(self) -> NamedSharding:
    return NamedSharding(self.mesh, BATCH)

  @property
  def replicated(self) -> NamedSharding:
    return NamedSharding(self.mesh, REPLICATED)


def place(config: llama_config.LlamaConfig, mesh: Mesh) -> Placement:
  return Placement(mesh, params(config, mesh))
