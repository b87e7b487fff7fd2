"""Loads and saves parameters as safetensors in a Hugging Face directory."""

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.flax
from etils import epath

from vpo_jax import errors, files
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import sharding, table
from vpo_jax.runtime import processes

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9  # largest file, as in transformers


def load(
  folder: epath.PathLike,
  config: decoder_config.DecoderConfig,
  shardings: Any = None,
  dtype: str = "float32",
) -> table.Params:
  """Loads parameters; each process reads only the parts for its devices.

  Args:
    folder: a local directory with `model.safetensors`, or shards and their index.
    config: from `decoder_config.read`.
    shardings: from `sharding.params`; None for the default device.
    dtype: type of the parameters in memory.

  Raises:
    UserError: a tensor is missing or has the wrong shape, or a file is truncated.
  """
  where = _find_tensors(epath.Path(folder))
  tree = table.table(config)
  _check(epath.Path(folder), where, tree)

  def one(weight: table.Weight, sharding: Any) -> jax.Array:
    def part(index: tuple[slice, ...] | None) -> np.ndarray:
      assert index is not None
      return _read(weight, index, where).astype(dtype)

    if sharding is None:
      return jnp.asarray(part((slice(None),) * len(weight.shape)))
    return jax.make_array_from_callback(weight.shape, sharding, part)

  if shardings is None:
    return jax.tree.map(lambda weight: one(weight, None), tree)
  return jax.tree.map(one, tree, shardings)


def save(
  folder: epath.PathLike,
  params: table.Params,
  config: decoder_config.DecoderConfig,
  dtype: str = "float32",
  shard_bytes: int = SHARD_BYTES,
) -> None:
  """Writes parameters as safetensors with Hugging Face's names.

  Args:
    folder: created if missing; other files in it are kept.
    params: on any mesh. If the mesh spans processes, all must call this; the first one
      writes.
    config: of the model.
    dtype: type of the tensors in the file.
    shard_bytes: size of a file above which the tensors are split into several files
      with an index.
  """
  folder = epath.Path(folder)
  shards: list[dict[str, np.ndarray]] = [{}]
  size = total = 0
  for name, tensor in hf_tensors(params, table.table(config), dtype):
    if not processes.first():
      continue
    if size + tensor.nbytes > shard_bytes and shards[-1]:
      shards.append({})
      size = 0
    shards[-1][name] = tensor
    size, total = size + tensor.nbytes, total + tensor.nbytes
  if not processes.first():
    return
  index = {}
  for number, shard in enumerate(shards, start=1):
    name = "model.safetensors"
    if len(shards) > 1:
      name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
    with files.publish(folder / name, "wb") as file:
      file.write(encode(shard))
    index |= dict.fromkeys(shard, name)
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


def _find_tensors(folder: epath.Path) -> dict[str, epath.Path]:
  """The file that has each tensor, by the tensor's name."""
  if (folder / INDEX).exists():
    index = json.loads((folder / INDEX).read_text())["weight_map"]
    paths = {name: folder / file for name, file in index.items()}
  elif (folder / "model.safetensors").exists():
    paths = {"": folder / "model.safetensors"}
  else:
    raise errors.UserError(f"{folder}: no model.safetensors and no {INDEX}")
  found = {}
  for path in sorted(set(paths.values())):
    try:
      with safetensors.safe_open(path, framework="numpy") as file:
        found |= dict.fromkeys(file.keys(), path)
    except (safetensors.SafetensorError, OSError) as error:
      raise errors.UserError(f"{path}: cannot be read: {error}") from error
  return found


def _check(folder: epath.Path, where: dict[str, epath.Path], tree: Any) -> None:
  """Raises UserError if a tensor is missing or has the wrong shape."""
  for weight in jax.tree.leaves(tree):
    for name in _hf_names(weight):
      if name not in where:
        raise errors.UserError(f"{folder}: tensor {name} is missing")
      with safetensors.safe_open(where[name], framework="numpy") as file:
        shape = tuple(file.get_slice(name).get_shape())
      if shape != weight.hf_shape:
        raise errors.UserError(
          f"{where[name]}: tensor {name} has shape {shape}, but by config.json it"
          f" should have {weight.hf_shape}"
        )


def _hf_names(weight: table.Weight) -> list[str]:
  if not weight.stacked:
    return [weight.hf_name]
  return [weight.hf_name.format(layer=layer) for layer in range(weight.shape[0])]


def _read(
  weight: table.Weight, index: tuple[slice, ...], where: dict[str, epath.Path]
) -> np.ndarray:
  names = _hf_names(weight)
  if weight.stacked:
    layers, index = index[0], index[1:]
    return np.stack([_slice(weight, where[n], n, index) for n in names[layers]])
  return _slice(weight, where[names[0]], names[0], index)


def _slice(weight, path, name, index):
  # safetensors cannot read bfloat16 as numpy arrays; jax arrays stay on the host.
  with (
    jax.default_device(jax.local_devices(backend="cpu")[0]),
    safetensors.safe_open(path, framework="flax") as file,
  ):
    tensor = file.get_slice(name)[index[::-1] if weight.transposed else index]
    tensor = np.asarray(tensor)
  return tensor.T if weight.transposed else tensor


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
    value = leaf.astype(dtype)
    for layer, name in enumerate(_hf_names(weight)):
      tensor = sharding.to_host(value[layer] if weight.stacked else value)
      yield name, np.ascontiguousarray(tensor.T if weight.transposed else tensor)


def check(folder: epath.Path, config: decoder_config.DecoderConfig) -> int:
  """Checks that a directory has every weight; returns the number of parameters.

  Reads only the files' headers.

  Raises:
    UserError: a file or a weight is missing, or a weight has another shape.
  """
  declared = table.table(config)
  _check(folder, _find_tensors(folder), declared)
  return sum(math.prod(weight.shape) for weight in jax.tree.leaves(declared))
