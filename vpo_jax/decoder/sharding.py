"""The device mesh, and how parameters and micro-batches are split over it."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vpo_jax import errors
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import table

AXES = ("data", "fsdp", "tensor")

# The mesh axis that splits each logical axis of `table.table`. `fsdp` splits weights as
# ZeRO-3 does, `tensor` as Megatron does.
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


def make_mesh(
  config: ml_collections.ConfigDict | dict[str, int],
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """A mesh with the axis sizes of `config`.

  Args:
    config: size of each of `AXES`; one may be -1, for all remaining devices. `devices`,
      if it is there and not 0, is the number of devices to use.
    devices: to choose from; None for all devices of all processes.

  Raises:
    UserError: the sizes need more or fewer devices than there are, or do not divide
      them.
  """
  devices = jax.devices() if devices is None else devices
  wanted = config.get("devices", 0)
  if wanted > len(devices):
    raise errors.UserError(f"mesh.devices={wanted}: there are {len(devices)} devices")
  devices = devices[: wanted or len(devices)]
  sizes = {axis: int(config[axis]) for axis in AXES}
  if bad := [a for a, n in sizes.items() if n < 1 and n != -1]:
    raise errors.UserError(f"mesh.{bad[0]}={sizes[bad[0]]}: must be positive, or -1")
  free = [axis for axis, size in sizes.items() if size == -1]
  fixed = math.prod(size for size in sizes.values() if size != -1)
  if len(free) > 1:
    raise errors.UserError(f"mesh: only one axis can be -1, not {' and '.join(free)}")
  if free:
    if len(devices) % fixed:
      raise errors.UserError(f"mesh: {fixed} does not divide {len(devices)} devices")
    sizes[free[0]] = len(devices) // fixed
  count = math.prod(sizes.values())
  if count > len(devices):
    raise errors.UserError(
      f"mesh {sizes} needs {count} devices, there are {len(devices)}"
      f" ({devices[0].platform})"
    )
  if count < len(devices):
    raise errors.UserError(
      f"mesh {sizes} uses {count} of {len(devices)} devices; set one axis to -1 to use"
      f" all, or mesh.devices={count}"
    )
  return jax.make_mesh(
    tuple(sizes.values()),
    AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * len(AXES),
    devices=devices,
  )


def one_device_mesh() -> Mesh:
  """The mesh of JAX's first device."""
  return make_mesh(dict.fromkeys(AXES, 1), jax.devices()[:1])


def groups(mesh: Mesh) -> int:
  """Number of parts that a batch is split into."""
  return mesh.shape["data"] * mesh.shape["fsdp"]


def platform(rows: NamedSharding) -> str:
  """The kind of device that rows are on: cpu, gpu or tpu."""
  return next(iter(rows.device_set)).platform


def one_gpu(rows: NamedSharding) -> bool:
  """Whether rows are on a single GPU."""
  return len(rows.device_set) == 1 and platform(rows) == "gpu"


def params(config: decoder_config.DecoderConfig, mesh: Mesh, tree: Any = None) -> Any:
  """The sharding of every parameter, as a tree of the parameters' structure.

  Args:
    config: of the model.
    mesh: to place the parameters on.
    tree: of `table.Weight`s; None for the model's own.

  Raises:
    UserError: a mesh axis does not divide the dimension that it splits.
  """
  sizes = {"heads": config.heads, "kv_heads": config.kv_heads}

  def one(weight: table.Weight) -> NamedSharding:
    for axis, size in zip(weight.axes, weight.shape, strict=True):
      mesh_axis = RULES[axis]
      size = sizes.get(str(axis), size)  # whole heads
      if mesh_axis and size % mesh.shape[mesh_axis]:
        raise errors.UserError(
          f"mesh.{mesh_axis}={mesh.shape[mesh_axis]} does not divide the model's"
          f" {axis} ({size})"
        )
    return NamedSharding(mesh, PartitionSpec(*(RULES[axis] for axis in weight.axes)))

  return jax.tree.map(one, tree or table.table(config))


def to_host(array: jax.Array) -> np.ndarray:
  """The whole array on this host. If it spans processes, all must call this."""
  if not array.is_fully_addressable and not array.is_fully_replicated:
    assert isinstance(array.sharding, NamedSharding)
    replicated = NamedSharding(array.sharding.mesh, REPLICATED)
    array = jax.jit(_identity, out_shardings=replicated)(array)
  return np.asarray(array)


def _identity(x):
  return x


@dataclasses.dataclass(frozen=True)
class Placement:
  """A mesh and the shardings of parameters and batches on it."""

  mesh: Mesh
  params: Any

  @property
  def batch(self) -> NamedSharding:
    return NamedSharding(self.mesh, BATCH)

  @property
  def replicated(self) -> NamedSharding:
    return NamedSharding(self.mesh, REPLICATED)

  @functools.cached_property
  def own_groups(self) -> list[int]:
    """Indices of the groups on this process's devices, ascending."""
    indices = self.batch.addressable_devices_indices_map((groups(self.mesh),))
    return sorted({part[0].start or 0 for part in indices.values() if part})

  def shard_groups(self, own: Any, axis: int = 0) -> Any:
    """Arrays over all groups, of which this process contributes its own.

    Args:
      own: a tree of numpy arrays with `own_groups` along `axis`.
      axis: the axis of groups. Along the others every process has all values.
    """
    sharding = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, *BATCH))
    positions = {group: i for i, group in enumerate(self.own_groups)}

    def one(leaf: np.ndarray) -> jax.Array:
      def part(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None
        i = positions[index[axis].start or 0]
        return leaf[(slice(None),) * axis + (slice(i, i + 1),)]

      shape = (*leaf.shape[:axis], groups(self.mesh), *leaf.shape[axis + 1 :])
      return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(one, own)


def place(config: decoder_config.DecoderConfig, mesh: Mesh) -> Placement:
  """The placement of a model on a mesh.

  Raises:
    UserError: as `params`.
  """
  return Placement(mesh, params(config, mesh))
