"""Rates, memories and prices of chips, each with its source."""

import dataclasses
import math
import re
from collections.abc import Sequence

from vpo_jax import errors

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One device, as JAX counts devices.

  Attributes:
    flops: peak dense bfloat16 FLOP/s (a multiply-add is 2 FLOPs).
    memory: bytes available to a program.
    bandwidth: bytes/s of that memory.
    link: bytes/s that a device sends: in one direction along one axis of a TPU's
      torus, or to all other GPUs of its node together.
    between: bytes/s that a GPU sends to other nodes.
    node: GPUs per node; 0 for a torus.
    wrap: an axis whose length is a multiple of `wrap` is a ring: both directions send.
    dollars: on-demand price per hour.
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


# Sources, read in November 2026:
# - TPU rates: tables of "How to Scale Your Model"
#   (jax-ml.github.io/scaling-book/tpus). Google's pages
#   (docs.cloud.google.com/tpu/docs/v5e, /v5p, /v6e) give 197, 459 and 918 TFLOP/s;
#   819, 2,765 and 1,638 GB/s; and 400, 1,200 and 800 GB/s for the 4, 6 and 4 links of a
#   chip in both directions, which is a tenth more than `link`.
# - TPU memory: the capacity in libtpu's out-of-memory errors.
# - TPU prices (on demand, US): v6e from Google's general-availability announcement
#   (December 2024); v5e and v5p from third parties that quote
#   cloud.google.com/tpu/pricing in 2026. Prices change; see --price.
# - GPU rates: NVIDIA's data sheets of H100 SXM and H200 SXM (half of the sparse
#   figures; half of NVLink's 900 GB/s, which counts both directions). The H800 is an
#   H100 with 400 GB/s of NVLink.
# - GPU memory: what the driver reports for 80 and 141 GB. Between nodes: one 400 Gb/s
#   port per GPU (DGX H100 data sheet). Prices vary too widely; see --price.
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
  """Connected chips: `shape` is the torus of a TPU slice, or (devices,) for GPUs."""

  chip: Chip
  shape: tuple[int, ...]

  @property
  def devices(self) -> int:
    return math.prod(self.shape)

  @property
  def topology(self) -> str | None:
    """The TPU compiler's name of the slice; None for GPUs."""
    if self.chip.node:
      return None
    return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

  def send_rates(self, group: int, per_node: int, kind: str = "") -> dict[str, float]:
    """Bytes/s that each device of a group sends in a collective, by resource.

    Torus: a collective over all devices uses every axis; a smaller group is assumed to
    use one. Permutes come in pairs, one in each direction of a ring.

    GPUs: within a node they use NVLink. When a group spans nodes, its members in a node
    share the traffic that leaves the node: each uses its own port, and NVLink
    distributes what arrives.

    Args:
      group: devices in the group.
      per_node: devices of the group in each node.
      kind: the collective's HLO name.
    """
    chip = self.chip
    if chip.node:
      rates = {"interconnect": chip.link} if per_node > 1 else {}
      if group > per_node:
        rates["network"] = chip.between * per_node
      return rates
    if kind == "collective-permute":
      return {"interconnect": 2 * chip.link}
    axes = [n for n in self.shape if n > 1]
    rates = [chip.link * (2 if n % chip.wrap == 0 else 1) for n in axes]
    rate = sum(rates) if group >= self.devices else max(rates, default=chip.link)
    return {"interconnect": rate}


def parse(topology: str) -> Machine:
  """Parses "v5p:2x2x2" or "h800:8".

  Raises:
    UserError: an unknown chip, or malformed sizes.
  """
  name, _, sizes = topology.partition(":")
  if name not in CHIPS:
    raise errors.UserError(
      f"--topology={topology}: unknown chip; use one of {', '.join(CHIPS)}"
    )
  if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes):
    raise errors.UserError(
      f"--topology={topology}: give a TPU's axes (v5p:2x2x2) or a number of GPUs"
      " (h800:8)"
    )
  shape = tuple(int(size) for size in sizes.split("x"))
  if CHIPS[name].node:
    shape = (math.prod(shape),)
  return Machine(CHIPS[name], shape)


def slices(name: str, counts: Sequence[int]) -> list[Machine]:
  """One machine per number of chips, its torus as close to a cube as possible."""
  chip = CHIPS[name]
  axes = 1 if chip.node else 3 if name == "v5p" else 2
  machines = []
  for count in counts:
    shape = [1] * axes
    for _ in range(round(math.log2(count))):
      shape[shape.index(min(shape))] *= 2
    machines.append(Machine(chip, tuple(sorted(shape))))
  return machines
