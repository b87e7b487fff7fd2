"""Time, memory, efficiency and cost of a compiled step on a machine."""

import dataclasses
from typing import Any

from vpo_jax.plan import chips


@dataclasses.dataclass(frozen=True)
class Prediction:
  """One step on one machine; times assume each resource at its peak rate.

  Attributes:
    memory: bytes per device, by kind; `peak` is the most in use at any time.
    capacity: memory of a device, in bytes.
    flops: per device and step.
    bytes: main-memory traffic per device and step.
    sent: bytes sent per device and step, by kind of collective.
    seconds: per step, by resource: "compute", "memory", "interconnect", and "network"
      (between nodes of GPUs); empty if the compiler ran out of memory.
    examples: per step, on all devices.
    model_flops: per step, on all devices, without padding and recomputation.
  """

  machine: chips.Machine
  about: dict[str, Any]
  memory: dict[str, float]
  capacity: float
  flops: float
  bytes: float
  sent: dict[str, float]
  seconds: dict[str, float]
  examples: float
  model_flops: float

  @property
  def fits(self) -> bool:
    return self.memory["peak"] <= self.capacity and bool(self.seconds)

  @property
  def binds(self) -> str:
    """The resource that takes the most time."""
    return max(self.seconds, key=lambda name: self.seconds[name])

  @property
  def step_seconds(self) -> float:
    """Lower bound: resources overlap perfectly."""
    return self.seconds[self.binds]

  @property
  def serial_seconds(self) -> float:
    """Time of a step if no resources overlap."""
    return sum(self.seconds.values())

  @property
  def examples_per_second(self) -> float:
    return self.examples / self.step_seconds

  @property
  def mfu(self) -> float:
    """Model FLOPs utilization: model FLOP/s as a fraction of the chips' peak."""
    peak = self.machine.chip.flops * self.machine.devices
    return self.model_flops / self.step_seconds / peak

  @property
  def rates(self) -> dict[str, Any]:
    """Speed and bottleneck, by name; empty if there are no times."""
    names = "binds", "step_seconds", "serial_seconds", "examples_per_second", "mfu"
    return {name: getattr(self, name) for name in names} if self.seconds else {}

  def run(self, examples: float, dollars: float | None) -> dict[str, float]:
    """Hours and cost of a run.

    Args:
      examples: of the whole run.
      dollars: price per chip and hour; None takes the chip's own.
    """
    hours = examples / self.examples_per_second / 3600
    dollars = self.machine.chip.dollars if dollars is None else dollars
    cost = (
      {} if dollars is None else {"dollars": hours * dollars * self.machine.devices}
    )
    return {"examples": examples, "hours": hours} | cost

  def json(self) -> dict[str, Any]:
    return {
      "chip": dataclasses.asdict(self.machine.chip),
      "devices": self.machine.devices,
      "topology": list(self.machine.shape),
      **self.about,
      "memory": self.memory,
      "capacity": self.capacity,
      "fits": self.fits,
      "flops": self.flops,
      "bytes": self.bytes,
      "sent": self.sent,
      "seconds": self.seconds,
      **self.rates,
    }


def predict(machine: chips.Machine, compiled: dict[str, Any]) -> Prediction:
  """Combines a machine's rates with the result of `compile_cache.get`."""
  cost, memory = compiled["cost"], compiled["memory"]
  seconds: dict[str, float] = {}
  sent: dict[str, float] = {}
  if cost:
    chip = machine.chip
    seconds = {
      "compute": cost["flops"] / chip.flops,
      "memory": cost["bytes"] / chip.bandwidth,
      "interconnect": 0.0,
    }
    for entry in cost["collectives"]:
      sent[entry["kind"]] = sent.get(entry["kind"], 0.0) + entry["bytes"]
      rates = machine.send_rates(entry["devices"], entry["per_node"], entry["kind"])
      for name, rate in rates.items():
        seconds[name] = seconds.get(name, 0.0) + entry["bytes"] / rate
  return Prediction(
    machine=machine,
    about=compiled["about"],
    memory={k: v for k, v in memory.items() if k != "capacity"},
    capacity=memory.get("capacity", machine.chip.memory),
    flops=cost["flops"] if cost else 0.0,
    bytes=cost["bytes"] if cost else 0.0,
    sent=sent,
    seconds=seconds,
    examples=compiled["about"]["examples"],
    model_flops=compiled["work"]["flops"],
  )
