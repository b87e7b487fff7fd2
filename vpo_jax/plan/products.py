"""Multiply-adds of HLO's products, each counted as two operations."""

import math
import re

from vpo_jax.plan import hlo


def dot(computation: hlo.Computation, dot: hlo.Instruction) -> float:
  """A `dot` of any rank, with any axes contracted."""
  left = computation[dot.operands[0]].dims
  contracted = [left[d] for d in _dims(dot.rest, "lhs_contracting_dims")]
  return 2.0 * math.prod(dot.dims) * math.prod(contracted)


def _dims(text: str, name: str) -> tuple[int, ...]:
  found = re.search(name + r"=\{([\d,]*)\}", text)
  return tuple(int(d) for d in found[1].split(",") if d) if found else ()


def matmul(computation: hlo.Computation, call: hlo.Instruction) -> float:
  """A library's product: [.., m, k] by [.., k, n], either of them turned."""
  left, right = (computation[n].dims for n in call.operands[:2])
  out = math.prod(call.dims)
  batch = math.prod(left[:-2]) or 1
  shared = math.prod(left) * math.prod(right) / (out * batch)  # k squared
  return 2.0 * out * math.sqrt(shared)


def convolution(computation: hlo.Computation, conv: hlo.Instruction) -> float:
  """A TPU's products are convolutions; a batch axis is a window of one valid place."""
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", conv.rest)
  assert labels, conv
  lhs, rhs = (computation[n].dims for n in conv.operands[:2])
  window = re.search(r"window=\{([^}]*)\}", conv.rest)
  options = dict(part.split("=", 1) for part in window[1].split()) if window else {}
  batches = re.search(r"batch_group_count=(\d+)", conv.rest)
  flops = 2.0 * lhs[labels[1].index("b")] / (int(batches[1]) if batches else 1)
  flops *= rhs[labels[2].index("i")] * rhs[labels[2].index("o")]
  for axis in range(sum(letter.isdigit() for letter in labels[1])):
    flops *= valid(
      lhs[labels[1].index(str(axis))],
      conv.dims[labels[3].index(str(axis))],
      **{name: _window(value, axis) for name, value in options.items()},
    )
  return flops


def _window(value: str, axis: int) -> str:
  return value.split("x")[axis]


def valid(length: int, out: int, size="1", stride="1", pad="0_0", **more: str) -> int:
  """Pairs of an output and a window's place that meet an input, along one axis."""
  low = int(pad.split("_")[0])
  spread = int(more.get("lhs_dilate", "1"))
  apart = int(more.get("rhs_dilate", "1"))
  count = 0
  for place in range(int(size)):
    # Inputs lie at multiples of `spread`; outputs look at o * stride - low + place.
    offset = place * apart - low
    step = int(stride)
    if spread == 1 and step == 1:
      count += max(0, min(out, length - offset) - max(0, -offset))
    else:
      looked = (o * step + offset for o in range(out))
      count += sum(
        x % spread == 0 and 0 <= x < (length - 1) * spread + 1 for x in looked
      )
  return count
