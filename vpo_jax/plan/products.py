"""FLOPs of HLO's matrix products; a multiply-add is 2 FLOPs."""

import math
import re

from vpo_jax.plan import hlo


def dot(computation: hlo.Computation, dot: hlo.Instruction) -> float:
  """FLOPs of a `dot` of any rank."""
  left = computation[dot.operands[0]].dims
  contracted = [left[d] for d in _dims(dot.attributes, "lhs_contracting_dims")]
  return 2.0 * math.prod(dot.dims) * math.prod(contracted)


def _dims(text: str, name: str) -> tuple[int, ...]:
  found = re.search(name + r"=\{([\d,]*)\}", text)
  return tuple(int(d) for d in found[1].split(",") if d) if found else ()


def matmul(computation: hlo.Computation, call: hlo.Instruction) -> float:
  """FLOPs of a library call: [.., m, k] @ [.., k, n], either operand transposed."""
  left, right = (computation[n].dims for n in call.operands[:2])
  out = math.prod(call.dims)
  batch = math.prod(left[:-2]) or 1
  k_squared = math.prod(left) * math.prod(right) / (out * batch)
  return 2.0 * out * math.sqrt(k_squared)


def convolution(computation: hlo.Computation, conv: hlo.Instruction) -> float:
  """FLOPs of a `convolution`.

  A TPU's matrix products are convolutions. A batch axis is a window of which one
  position is valid for each output.
  """
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", conv.attributes)
  assert labels, conv
  lhs, rhs = (computation[n].dims for n in conv.operands[:2])
  window = re.search(r"window=\{([^}]*)\}", conv.attributes)
  options = dict(part.split("=", 1) for part in window[1].split()) if window else {}
  batches = re.search(r"batch_group_count=(\d+)", conv.attributes)
  flops = 2.0 * lhs[labels[1].index("b")] / (int(batches[1]) if batches else 1)
  flops *= rhs[labels[2].index("i")] * rhs[labels[2].index("o")]
  for axis in range(sum(letter.isdigit() for letter in labels[1])):
    flops *= valid_positions(
      lhs[labels[1].index(str(axis))],
      conv.dims[labels[3].index(str(axis))],
      **{name: _window(value, axis) for name, value in options.items()},
    )
  return flops


def _window(value: str, axis: int) -> str:
  return value.split("x")[axis]


def valid_positions(
  length: int,
  out: int,
  size: str = "1",
  stride: str = "1",
  pad: str = "0_0",
  lhs_dilate: str = "1",
  rhs_dilate: str = "1",
  **_: str,
) -> int:
  """Counts (output, window position) pairs that read an input element, on one axis.

  Args:
    length: input elements.
    out: output elements.
    size, stride, pad, lhs_dilate, rhs_dilate: as in HLO's `window`.
  """
  low, step = int(pad.split("_")[0]), int(stride)
  input_spacing, window_spacing = int(lhs_dilate), int(rhs_dilate)
  count = 0
  for position in range(int(size)):
    offset = position * window_spacing - low
    if input_spacing == 1 and step == 1:
      count += max(0, min(out, length - offset) - max(0, -offset))
    else:  # inputs are at multiples of `input_spacing`
      read = (index * step + offset for index in range(out))
      last = (length - 1) * input_spacing
      count += sum(x % input_spacing == 0 and 0 <= x <= last for x in read)
  return count
