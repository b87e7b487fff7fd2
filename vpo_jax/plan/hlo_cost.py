"""FLOPs, memory traffic and transfers of a compiled program, counted in its HLO text.

XLA's own cost analysis counts a loop's body once and ignores transfers. Here each
computation counts as often as it runs (`loops`), products inside fusions are found, and
a loop that slices one layer of a stacked weight reads one layer per iteration.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable

from vpo_jax.plan import groups, hlo, loops, products, traffic

FREE = {  # no memory traffic of their own
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
  *("while", "conditional", "call", "iota", "partition-id", "replica-id"),
  *("opt-barrier", "async-start", "async-done", "async-update"),
}

# Bytes by kind of collective, devices of a group, and how many of them share a node.
Sent = dict[tuple[str, int, int], float]


@dataclasses.dataclass
class Cost:
  """The work of one device in one run of a program.

  Attributes:
    flops: of its matrix products; a multiply-add is 2 FLOPs.
    bytes: main-memory traffic, as if no operation's result stayed in a cache.
    roofline: seconds, summed over operations; see `analyze`.
    collectives: bytes that the device sends.
  """

  flops: float = 0.0
  bytes: float = 0.0
  roofline: float = 0.0
  collectives: Sent = dataclasses.field(default_factory=dict)

  @property
  def moved(self) -> float:
    """Bytes read, written and sent."""
    return self.bytes + sum(self.collectives.values())

  def add(self, other: "Cost", times: float = 1.0) -> None:
    self.flops += times * other.flops
    self.bytes += times * other.bytes
    self.roofline += times * other.roofline
    for key, value in other.collectives.items():
      self.collectives[key] = self.collectives.get(key, 0.0) + times * value


# (FLOPs, bytes) of an operation -> seconds
Rate = Callable[[float, float], float]


def analyze(
  text: str, trips: float = 1.0, seconds: Rate | None = None, host: bool = False
) -> Cost:
  """Counts a module's work on one device.

  Args:
    text: `compiled.as_text()`.
    trips: iterations of the loop whose count is an input of the program: micro-batches
      or decode steps. A loop inside it that depends on its data counts once, such as
      the draws of a token, of which the first is nearly always the last.
    seconds: time of one operation, summed in `Cost.roofline`; None leaves that 0.
    host: the module is a stand-in for another machine, compiled by the CPU compiler.
      Then bfloat16 that it sends as float32 counts as bfloat16; an all-reduce of which
      each device keeps a slice counts as a reduce-scatter; and memory traffic counts
      only operands and results of products and the update of the weights, which every
      compiler has to move.
  """
  counter = _Counter(text, trips, seconds, host)
  return counter.computation(counter.entry)


class _Counter:
  def __init__(self, text: str, trips: float, seconds: Rate | None, host: bool):
    self._computations, self.entry = hlo.read(text)
    partitions = re.search(r"num_partitions=(\d+)", text.split("\n", 1)[0])
    self._devices = int(partitions[1]) if partitions else 1
    self._trips = trips
    self._seconds = seconds
    self._host = host
    self._channels: set[str] = set()  # of fused collectives already counted
    self.computation = functools.cache(self._computation)

  def _computation(self, name: str, in_steps: bool = False) -> Cost:
    """The cost of a computation.

    Args:
      in_steps: it is inside the loop of `trips` iterations.
    """
    total = Cost()
    computation = self._computations.get(name, {})
    for instruction in computation.values():
      if instruction.op == "while":
        trips = loops.trip_count(self._computations, computation, instruction)
        of_steps = trips is None and not in_steps
        body = self.computation(loops.body(instruction), in_steps or of_steps)
        total.add(body, self._trips if of_steps else trips or 1.0)
      elif instruction.op == "conditional":  # the branch that costs most
        branches = [self.computation(c, in_steps) for c in instruction.called]
        total.add(max(branches, key=lambda cost: (cost.moved, cost.flops)))
      elif instruction.op in ("call", "async-start"):
        for called in instruction.called:
          total.add(self.computation(called, in_steps))
      else:
        cost = self._instruction(computation, instruction)
        if self._host and not cost.flops and name != self.entry:
          cost.bytes = 0.0
        total.add(cost)
    return total

  def _instruction(
    self, computation: hlo.Computation, instruction: hlo.Instruction
  ) -> Cost:
    op = instruction.op.removesuffix("-start")
    if op in hlo.COLLECTIVES:
      return Cost(collectives=self._collective(computation, instruction, op))
    if op in FREE or op.endswith("-done"):
      return Cost()
    cost = _estimate(instruction)
    if cost is None:
      cost = Cost(flops=self._flops(computation, instruction))
      cost.bytes = traffic.bytes_moved(self._computations, computation, instruction)
    if self._seconds:
      cost.roofline = self._seconds(cost.flops, cost.bytes)
    if op == "fusion":
      cost.collectives = self._fused(instruction)
    return cost

  def _fused(self, fusion: hlo.Instruction) -> Sent:
    """Collectives inside a TPU's fusion.

    A reduction is fused with the slice that each device keeps. A collective that
    overlaps several products appears in each of their fusions; it counts once.
    """
    sent: Sent = {}
    for called in fusion.called:
      channels = hlo.channels(self._computations.get(called, {}))
      if channels and channels <= self._channels:
        continue
      self._channels |= channels
      scatter = "reduce-scatter" in called or "reduce-scatter" in fusion.name
      for (kind, size, per_node), n in self.computation(called).collectives.items():
        if scatter and kind == "all-reduce":
          kind, n = "reduce-scatter", n / 2
        key = kind, size, per_node
        sent[key] = sent.get(key, 0.0) + n
    return sent

  def _collective(
    self, computation: hlo.Computation, instruction: hlo.Instruction, op: str
  ) -> Sent:
    """Bytes that one device sends, with ring algorithms."""
    group = groups.members(instruction.attributes, self._devices)
    size, per_node = len(group), groups.per_node(group)
    if size == 1:
      return {}
    part = (size - 1) / size
    factors = {
      "all-gather": size - 1,
      "all-reduce": 2 * part,
      "reduce-scatter": part,
      "all-to-all": part,
      "ragged-all-to-all": part,
    }
    sent: Sent = {}
    for index, name in enumerate(instruction.operands):
      if name not in computation:
        continue
      operand, kind = computation[name].bytes, op
      if self._host and self._widened(computation[name]):
        operand /= 2
      if (
        self._host
        and op == "all-reduce"
        and self._sliced(computation, instruction, index)
      ):
        kind = "reduce-scatter"
      key = kind, size, per_node
      sent[key] = sent.get(key, 0.0) + operand * factors.get(kind, 1.0)
    return sent

  def _widened(self, instruction: hlo.Instruction) -> bool:
    """Whether a float32 result was converted from bfloat16 just before."""
    if instruction.shapes[0][0] != "f32":
      return False
    inner = (
      i for c in instruction.called for i in self._computations.get(c, {}).values()
    )
    size = math.prod(instruction.dims)
    return any(
      i.shapes[0][0] == "bf16" and math.prod(i.dims) == size for i in inner if i.shapes
    )

  def _sliced(
    self, computation: hlo.Computation, instruction: hlo.Instruction, index: int
  ) -> bool:
    """Whether only a slice of result `index` is ever used."""
    name = instruction.name
    if len(instruction.shapes) > 1:
      name = next(
        (
          i.name
          for i in computation.values()
          if i.op == "get-tuple-element"
          and i.operands == (instruction.name,)
          and re.search(rf"index={index}\b", i.attributes)
        ),
        "",
      )
    users = [i for i in computation.values() if name in i.operands]
    return bool(users) and all(
      user.op == "dynamic-slice"
      or (
        user.op == "fusion"
        and traffic.bytes_read(
          self._computations, user.called[0], user.operands.index(name)
        )
        < computation[name].bytes
      )
      for user in users
    )

  def _flops(self, computation: hlo.Computation, instruction: hlo.Instruction) -> float:
    if instruction.op == "dot":
      return products.dot(computation, instruction)
    if instruction.op == "convolution":
      return products.convolution(computation, instruction)
    if instruction.op == "custom-call" and "matmul" in instruction.attributes:
      return products.matmul(computation, instruction)
    if instruction.op == "fusion":
      return sum(
        self._flops(self._computations[called], inner)
        for called in instruction.called
        for inner in self._computations.get(called, {}).values()
      )
    return 0.0


def _estimate(instruction: hlo.Instruction) -> Cost | None:
  """The cost that a Pallas kernel states itself (`pl.CostEstimate`)."""
  found = re.search(
    r'"cost_estimate":\{"flops":"(\d+)".*?"bytes_accessed":"(\d+)"',
    instruction.attributes,
  )
  return Cost(flops=float(found[1]), bytes=float(found[2])) if found else None
