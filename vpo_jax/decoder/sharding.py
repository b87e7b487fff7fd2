"""The mesh, and the one table from logical axes to its axes."""

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


def make_mesh(
  config: ml_collections.ConfigDict | dict[str, int],
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """Makes the mesh of `config`'s axis sizes.

  Args:
    devices: None is all that JAX knows, of all processes.

  Raises:
    UserError: more devices asked for than there are, or sizes that do not divide them.
  """
  devices = jax.devices() if devices is None else devices
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


def one_device_mesh() -> Mesh:
  """The mesh of JAX's first device."""
  return make_mesh(dict.fromkeys(AXES, 1))


def groups(mesh: Mesh) -> int:
  """How many ways the batch is split."""
  return mesh.shape["data"] * mesh.shape["fsdp"]


def one_gpu(rows: NamedSharding) -> bool:
  """Whether all is on one GPU, where what goes through its memory is worth saving."""
  return [device.platform for device in rows.device_set] == ["gpu"]


def params(config: decoder_config.DecoderConfig, mesh: Mesh, tree: Any = None) -> Any:
  """The sharding of every parameter, in the parameters' own structure.

  Args:
    tree: of `table.Weight`s; None is the model's own.

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

  return jax.tree.map(one, tree or table.table(config))


def whole(array: jax.Array) -> np.ndarray:
  """All of an array on this host; where it spans processes, all call this together."""
  if not array.is_fully_addressable and not array.is_fully_replicated:
    assert isinstance(array.sharding, NamedSharding)
    replicated = NamedSharding(array.sharding.mesh, REPLICATED)
    array = jax.jit(_same, out_shardings=replicated)(array)
  return np.asarray(array)


def _same(x):
  return x


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

  @functools.cached_property
  def own_groups(self) -> list[int]:
    """The groups of a micro-batch that this process's devices hold, in order."""
    held = self.batch.addressable_devices_indices_map((groups(self.mesh),))
    return sorted({part[0].start or 0 for part in held.values() if part})

  def lay(self, own: Any, axis: int = 0) -> Any:
    """This process's groups as its part of arrays over all groups.

    Args:
      own: a tree of numpy arrays that hold `own_groups` along `axis`.
      axis: the groups' axis; every process has all of the others.
    """
    sharding = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, *BATCH))
    places = {group: place for place, group in enumerate(self.own_groups)}

    def one(leaf: np.ndarray) -> jax.Array:
      def part(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None
        place = places[index[axis].start or 0]
        return leaf[(slice(None),) * axis + (slice(place, place + 1),)]

      shape = (*leaf.shape[:axis], groups(self.mesh), *leaf.shape[axis + 1 :])
      return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(one, own)


def place(config: decoder_config.DecoderConfig, mesh: Mesh) -> Placement:
  return Placement(mesh, params(config, mesh))
