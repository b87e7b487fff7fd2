"""Rates, memories and prices of chips, each with its source."""

import dataclasses
import math
import re
from collections.abc import Sequence

from vpo_jax import errors

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One device as JAX counts it.

  Attributes:
    flops: multiply-adds x 2 a second, bfloat16 operands, dense.
    memory: bytes that a program may use.
    bandwidth: bytes a second of that memory.
    link: bytes a second that a device sends to its neighbours: one way along one axis
      of a TPU's torus, or to all of a GPU's node together.
    between: the same to another node (GPUs).
    node: devices of a node (GPUs); 0 for a torus.
    wrap: an axis of a multiple of so many chips is a ring, and sends both ways.
    dollars: an hour, on demand.
  """

  name: str
  flops: float
  memory: float
  bandwidth: float
  link: float
  between: float = 0.0
  node: int = 0
  wrap: int = 0
  dollars: float | None = None


# All were looked up in November 2026.
# TPU rates: the tables of "How to Scale Your Model"
# (jax-ml.github.io/scaling-book/tpus). Google's pages
# (docs.cloud.google.com/tpu/docs/v5e, /v5p, /v6e) say 197, 459 and 918 TFLOP/s, 819,
# 2,765 and 1,638 GB/s, and of all links together, both ways, 400, 1,200 and 800 GB/s:
# with 4, 6 and 4 links of a chip a tenth more than `link`, each way.
# TPU memories: as libtpu's compiler names them when it refuses a program.
# TPU prices, on demand in the us: v6e's is that of Google's announcement of its
# general availability (December 2024); v5e's and v5p's are as others quote
# cloud.google.com/tpu/pricing in 2026, whose own table was not read. They change:
# --price.
# GPU rates: NVIDIA's data sheets of H100 SXM and H200 SXM (half of the sparse
# figures, half of NVLink's 900 GB/s both ways); the H800 is an H100 whose NVLink
# moves 400. Memories: as the driver reports them of 80 and 141 GB. Between nodes: one
# 400 Gb/s port a GPU, as in DGX H100's data sheet. Prices differ too widely to name
# one: --price.
CHIPS = {
  chip.name: chip
  for chip in (
    Chip("v5e", 197e12, 15.75 * GIB, 8.2e11, 4.5e10, wrap=16, dollars=1.20),
    Chip("v5p", 459e12, 95.74 * GIB, 2.8e12, 9e10, wrap=4, dollars=4.20),
    Chip("v6e", 918e12, 31.25 * GIB, 1.6e12, 9e10, wrap=16, dollars=2.70),
    Chip("h800", 989e12, 79.6 * GIB, 3.35e12, 200e9, 50e9, 8),
    Chip("h100", 989e12, 79.6 * GIB, 3.35e12, 450e9, 50e9, 8),
    Chip("h200", 989e12, 140 * GIB, 4.8e12, 450e9, 50e9, 8),
  )
}


@dataclasses.dataclass(frozen=True)
class Machine:
  """Chips and how they hang together: `shape` is a torus's, or (devices,)."""

  chip: Chip
  shape: tuple[int, ...]

  @property
  def devices(self) -> int:
    return math.prod(self.shape)

  @property
  def topology(self) -> str | None:
    """What the TPU compiler calls it; None for GPUs."""
    if self.chip.node:
      return None
    return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

  def sends(self, group: int, beside: int, kind: str = "") -> dict[str, float]:
    """Bytes a second that each of `group` devices sends in a collective, by resource.

    All devices of a torus use all of its axes; a smaller group is taken to lie along
    one. Permutes come in pairs, to the next device of a ring and to the one before.
    GPUs of a node use NVLink. Of a group over nodes, those of a node share what has to
    leave it: each port carries its device's part of it, and NVLink hands it on.

    Args:
      beside: devices of the group in a node.
    """
    chip = self.chip
    if chip.node:
      within = {"interconnect": chip.link} if beside > 1 else {}
      over = {"network": chip.between * beside} if group > beside else {}
      return within | over
    if kind == "collective-permute":
      return {"interconnect": 2 * chip.link}
    axes = [n for n in self.shape if n > 1]
    rates = [chip.link * (2 if n % chip.wrap == 0 else 1) for n in axes]
    rate = sum(rates) if group >= self.devices else max(rates, default=chip.link)
    return {"interconnect": rate}


def parse(topology: str) -> Machine:
  """Reads "v5p:2x2x2" or "h800:8".

  Raises:
    UserError: no such chip, or no sizes.
  """
  name, _, sizes = topology.partition(":")
  if name not in CHIPS:
    raise errors.UserError(f"--topology={topology}: one of {', '.join(CHIPS)}")
  if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes):
    raise errors.UserError(
      f"--topology={topology}: wants a TPU's axes (v5p:2x2x2) or GPUs (h800:8)"
    )
  shape = tuple(int(size) for size in sizes.split("x"))
  if CHIPS[name].node:
    shape = (math.prod(shape),)
  return Machine(CHIPS[name], shape)


def slices(name: str, counts: Sequence[int]) -> list[Machine]:
  """A machine of each number of chips, its torus as near to a cube as it can be."""
  chip = CHIPS[name]
  axes = 1 if chip.node else 3 if name == "v5p" else 2
  made = []
  for count in counts:
    shape = [1] * axes
    for _ in range(round(math.log2(count))):
      shape[shape.index(min(shape))] *= 2
    made.append(Machine(chip, tuple(sorted(shape))))
  return made
