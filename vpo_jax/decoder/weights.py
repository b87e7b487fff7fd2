"""Loads and saves parameters as safetensors in a Hugging Face directory."""

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.flax
from etils import epath

from vpo_jax import errors, files, json_input
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import sharding, stored, table
from vpo_jax.runtime import processes

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9  # largest file, as in transformers


def load(
  folder: epath.PathLike,
  config: decoder_config.DecoderConfig,
  shardings: Any = None,
  dtype: str = "float32",
) -> table.Params:
  """Loads parameters; each device gets its own part, one part after the other.

  Only one part is in host memory at a time, and each process reads only the tensors of
  its devices' parts.

  Args:
    folder: a directory with `model.safetensors`, or shards and their index.
    config: from `decoder_config.read`.
    shardings: from `sharding.params`; None for the default device.
    dtype: type of the parameters in memory.

  Raises:
    UserError: a tensor is missing or has the wrong shape, or a file is truncated.
  """
  tree = table.table(config)
  where = find_tensors(epath.Path(folder), tree)

  def one(weight: table.Weight, sharding: Any) -> jax.Array:
    def part(index: tuple[slice, ...]) -> np.ndarray:
      return _read(weight, index, where, dtype)

    if sharding is None:
      return jnp.asarray(part((slice(None),) * len(weight.shape)))
    return place(weight.shape, sharding, part)

  if shardings is None:
    return jax.tree.map(lambda weight: one(weight, None), tree)
  return jax.tree.map(one, tree, shardings)


def place(
  shape: tuple[int, ...],
  sharding: jax.sharding.Sharding,
  part: Callable[[tuple[slice, ...]], np.ndarray],
) -> jax.Array:
  """An array from its parts. `jax.make_array_from_callback` would hold all at once."""
  devices: dict[Any, list[Any]] = {}  # by the part that they hold
  indices = sharding.addressable_devices_indices_map(shape)
  for device, index in indices.items():
    assert index is not None
    devices.setdefault(tuple((s.start, s.stop) for s in index), []).append(device)
  arrays = []
  for bounds, same in devices.items():
    value = part(tuple(slice(*bound) for bound in bounds))
    placed = [jax.device_put(value, device, may_alias=False) for device in same]
    arrays += jax.block_until_ready(placed)
    del value
  return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def save(
  folder: epath.PathLike,
  params: table.Params,
  config: decoder_config.DecoderConfig,
  dtype: str = "float32",
  shard_bytes: int = SHARD_BYTES,
) -> None:
  """Writes parameters as safetensors with Hugging Face's names.

  One tensor is in host memory at a time.

  Args:
    folder: created if missing; other files in it are kept.
    params: on any mesh. If the mesh spans processes, all must call this; the first one
      writes.
    config: of the model.
    dtype: type of the tensors in the file.
    shard_bytes: size of a file above which the tensors are split into several files
      with an index.
  """
  tree = table.table(config)
  arrays = (array for _, array in hf_tensors(params, tree, dtype))
  if processes.first():
    _write(epath.Path(folder), tree, dtype, shard_bytes, ([a] for a in arrays))
  else:
    for _ in arrays:
      pass


def convert(
  folder: epath.PathLike,
  source: epath.PathLike,
  config: decoder_config.DecoderConfig,
  dtype: str = "float32",
  shard_bytes: int = SHARD_BYTES,
) -> None:
  """Copies the weights of one directory to another, cast block by block.

  Args:
    folder: created if missing; other files in it are kept.
    source: a directory as in `load`.
    config: of the model.
    dtype: type of the tensors in the new files.
    shard_bytes: as in `save`.

  Raises:
    UserError: as in `load`.
  """
  tree = table.table(config)
  where = find_tensors(epath.Path(source), tree)
  tensors = (where[name] for name, _ in hf_shapes(tree))
  blocks = ((b for _, b in one.blocks(0, one.shape[0])) for one in tensors)
  _write(epath.Path(folder), tree, dtype, shard_bytes, blocks)


def hf_shapes(tree: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
  """Name and shape of each tensor of a Hugging Face directory."""
  for weight in jax.tree.leaves(tree):
    for name in hf_names(weight):
      yield name, weight.hf_shape


def _write(
  folder: epath.Path,
  tree: Any,
  dtype: str,
  shard_bytes: int,
  tensors: Iterator[Iterable[np.ndarray]],
) -> None:
  """Writes the tensors of `hf_shapes(tree)`, each of which comes in parts."""
  shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
  size = total = 0
  for name, shape in hf_shapes(tree):
    nbytes = math.prod(shape) * jnp.dtype(dtype).itemsize
    if size + nbytes > shard_bytes and shards[-1]:
      shards.append([])
      size = 0
    shards[-1].append((name, shape))
    size, total = size + nbytes, total + nbytes
  index = {}
  for number, shard in enumerate(shards, start=1):
    file = "model.safetensors"
    if len(shards) > 1:
      file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
    parts = (part for _ in shard for part in next(tensors))
    stored.write(folder / file, shard, dtype, parts)
    index |= {name: file for name, _ in shard}
  if len(shards) > 1:
    files.write_json(
      folder / INDEX, {"metadata": {"total_size": total}, "weight_map": index}
    )


def encode(tensors: dict[str, np.ndarray]) -> bytes:
  """The content of a safetensors file that transformers and PEFT can read."""
  return safetensors.flax.save(tensors, metadata={"format": "pt"})  # pyright: ignore[reportArgumentType]


def fingerprint(params: table.Params) -> str:
  """16 hex digits that identify the weights; computed on their devices."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(params):
    digest.update(np.asarray(_digest(leaf)).tobytes())
  return digest.hexdigest()[:16]


@jax.jit
def _digest(leaf):
  """Two uint32 sums over the bits of a leaf; the second depends on their positions."""
  bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32)
  mix = jnp.zeros_like(bits)
  for axis, size in enumerate(bits.shape):
    step = jnp.arange(1, 2 * size, 2, dtype=jnp.uint32)
    step = step * jnp.uint32(2654435761 + 2 * axis)
    mix = mix + jnp.expand_dims(step, [a for a in range(bits.ndim) if a != axis])
  mixed = (bits ^ mix) * (mix | jnp.uint32(1))
  return jnp.stack([jnp.sum(bits, dtype=jnp.uint32), jnp.sum(mixed, dtype=jnp.uint32)])


def find_tensors(folder: epath.Path, tree: Any) -> dict[str, stored.Tensor]:
  """The tensors of a directory by name; all of `tree` are there and can be read."""
  if (folder / INDEX).exists():
    index = json_input.fields(folder / INDEX).get("weight_map")
    if not isinstance(index, dict):
      raise errors.UserError(f"{folder / INDEX}: has no weight_map")
    paths = {folder / file for file in index.values()}
  elif (folder / "model.safetensors").exists():
    paths = {folder / "model.safetensors"}
  else:
    raise errors.UserError(f"{folder}: no model.safetensors and no {INDEX}")
  found: dict[str, stored.Tensor] = {}
  for path in sorted(paths):
    for name, tensor in stored.tensors(path).items():
      found[_language_model(name)] = tensor
  for name, shape in hf_shapes(tree):
    if name not in found:
      raise errors.UserError(f"{folder}: tensor {name} is missing")
    if found[name].shape != shape:
      raise errors.UserError(
        f"{found[name].path}: tensor {name} has shape {found[name].shape}, but by"
        f" config.json it should have {shape}"
      )
    found[name].check()
  return found


def _language_model(name: str) -> str:
  """A tensor's name without the prefix that models of text and images give it."""
  name = name.replace("model.language_model.", "model.", 1)
  return name.removeprefix("language_model.")


def hf_names(weight: table.Weight) -> list[str]:
  """The names of a parameter's tensors in a Hugging Face directory, by layer."""
  if not weight.stacked:
    return [weight.hf_name]
  return [weight.hf_name.format(layer=layer) for layer in range(weight.shape[0])]


def _read(
  weight: table.Weight,
  index: tuple[slice, ...],
  where: dict[str, stored.Tensor],
  dtype: str,
) -> np.ndarray:
  """A part of a parameter, cast while it is read."""
  names = hf_names(weight)
  if not weight.stacked:
    return read_tensor(where[names[0]], index, weight.transposed, dtype)
  sizes = [len(range(n)[s]) for n, s in zip(weight.shape, index, strict=True)]
  part = np.empty(sizes, jnp.dtype(dtype))
  for layer, name in enumerate(names[index[0]]):
    _fill(part[layer], where[name], index[1:], weight.transposed)
  return part


def read_tensor(
  tensor: stored.Tensor, index: tuple[slice, ...], transposed: bool, dtype: str
) -> np.ndarray:
  """A part of one tensor, or of its transpose, cast while it is read."""
  shape = tensor.shape[::-1] if transposed else tensor.shape
  sizes = [len(range(n)[s]) for n, s in zip(shape, index, strict=True)]
  part = np.empty(sizes, jnp.dtype(dtype))
  _fill(part, tensor, index, transposed)
  return part


def _fill(
  part: np.ndarray, tensor: stored.Tensor, index: tuple[slice, ...], transposed: bool
) -> None:
  if transposed:
    part, index = part.T, index[::-1]
  first, last, _ = index[0].indices(tensor.shape[0])
  for row, block in tensor.blocks(first, last):
    part[row - first : row - first + len(block)] = block[(slice(None), *index[1:])]


def hf_tensors(
  params: table.Params, tree: Any, dtype: str
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields the name and host array of each tensor of a Hugging Face directory.

  Args:
    params: on any mesh. If the mesh spans processes, all must iterate.
    tree: the `table.Weight` of each parameter.
    dtype: type of the arrays.
  """
  weights = jax.tree.leaves(tree)
  for weight, leaf in zip(weights, jax.tree.leaves(params), strict=True):
    for layer, name in enumerate(hf_names(weight)):
      yield name, sharding.to_host(_hf_tensor(leaf, np.int32(layer), weight, dtype))


@functools.partial(jax.jit, static_argnames=("weight", "dtype"))
def _hf_tensor(leaf, layer, weight, dtype):
  """One layer of a parameter as Hugging Face stores it."""
  if weight.stacked:
    leaf = jax.lax.dynamic_index_in_dim(leaf, layer, keepdims=False)
  leaf = leaf.astype(dtype)
  return leaf.T if weight.transposed else leaf


def tensors(
  folder: epath.PathLike, config: decoder_config.DecoderConfig
) -> dict[str, stored.Tensor]:
  """The tensors of a directory by Hugging Face's name; reads only the headers.

  Args and Raises: as in `load`.
  """
  return find_tensors(epath.Path(folder), table.table(config))


def check(folder: epath.Path, config: decoder_config.DecoderConfig) -> int:
  """Checks that a directory has every weight; returns the number of parameters.

  Reads only the files' headers.

  Raises:
    UserError: a file or a weight is missing, or a weight has another shape or is
      quantized.
  """
  declared = table.table(config)
  find_tensors(folder, declared)
  return sum(math.prod(weight.shape) for weight in jax.tree.leaves(declared))
