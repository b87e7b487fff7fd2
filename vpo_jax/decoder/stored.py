"""Tensors in safetensors files, read by ranges of rows and written one at a time.

Neither reading nor writing holds a whole file in memory. Files are read, not mapped,
because the pages of a mapped file count as the process's memory. The format is
described at https://github.com/huggingface/safetensors.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from vpo_jax import errors, files

_BLOCK = 1 << 24  # bytes read at a time
_DTYPES = {
  "F32": np.dtype("float32"),
  "F16": np.dtype("float16"),
  "BF16": jnp.dtype("bfloat16"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor in a file.

  Attributes:
    path: the file.
    name: its name in the file.
    dtype: the name of its type in the file, such as "BF16".
    shape: its shape.
    start: where its first byte is in the file.
  """

  path: epath.Path
  name: str
  dtype: str
  shape: tuple[int, ...]
  start: int

  def check(self) -> None:
    """Raises UserError if the type is not one of unquantized weights."""
    if self.dtype not in _DTYPES:
      raise errors.UserError(
        f"{self.path}: tensor {self.name} has type {self.dtype}, not one of"
        f" {', '.join(_DTYPES)}; is the model quantized?"
      )

  def blocks(self, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields rows `first` to `last` (excluded) block by block.

    Returns: the number of a block's first row, and its rows.

    Raises:
      UserError: as `check`.
    """
    self.check()
    dtype = _DTYPES[self.dtype]
    width = math.prod(self.shape[1:])
    step = max(1, _BLOCK // (width * dtype.itemsize))
    with self.path.open("rb") as file:
      file.seek(self.start + first * width * dtype.itemsize)
      for row in range(first, last, step):
        count = min(step, last - row)
        content = file.read(count * width * dtype.itemsize)
        yield row, np.frombuffer(content, dtype).reshape(count, *self.shape[1:])


def tensors(path: epath.Path) -> dict[str, Tensor]:
  """The tensors of a file, by name; reads the header only.

  Raises:
    UserError: there is no such file, it is truncated, or it is not in this format.
  """
  try:
    size = path.stat().length
    with path.open("rb") as file:
      begins = 8 + int.from_bytes(file.read(8), "little")
      header = json.loads(file.read(begins - 8)) if begins <= size else {}
    header.pop("__metadata__", None)
    found = {
      name: Tensor(
        path, name, row["dtype"], tuple(row["shape"]), begins + row["data_offsets"][0]
      )
      for name, row in header.items()
    }
    ends = [begins + row["data_offsets"][1] for row in header.values()]
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise errors.UserError(f"{path}: cannot be read: {error}") from error
  if max(ends, default=begins) > size:
    raise errors.UserError(f"{path}: cannot be read: the file is truncated")
  return found


def write(
  path: epath.PathLike,
  shapes: Sequence[tuple[str, tuple[int, ...]]],
  dtype: str,
  arrays: Iterable[np.ndarray],
) -> None:
  """Writes a file that transformers can read, atomically.

  Args:
    path: of the file.
    shapes: name and shape of each tensor.
    dtype: of all tensors.
    arrays: each tensor's values in the order of `shapes`, whole or in parts.
  """
  kind = jnp.dtype(dtype)
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  end = 0
  for name, shape in shapes:
    start, end = end, end + math.prod(shape) * kind.itemsize
    header[name] = {
      "dtype": _NAMES[kind],
      "shape": list(shape),
      "data_offsets": [start, end],
    }
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)  # so that the values are aligned
  with files.publish(path, "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    written = 0
    for array in arrays:
      values = np.ascontiguousarray(array.astype(kind, copy=False))
      file.write(values.reshape(-1).view(np.uint8).data)
      written += values.nbytes
      del array, values  # before the next one is made
    assert written == end, (written, end)
