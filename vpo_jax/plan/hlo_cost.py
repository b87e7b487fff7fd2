"""What a compiled program does: a count over its HLO text.

XLA's own cost analysis counts a loop's body once and knows no interconnect. Here every
computation is counted as often as it runs (`trips`), products inside fusions are found,
and a stacked weight of which a loop slices one layer is read a layer at a time.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable

from vpo_jax.plan import groups, hlo, products, traffic, trips

FREE = {  # move nothing, or are counted elsewhere
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
  *("while", "conditional", "call", "iota", "partition-id", "replica-id"),
  *("opt-barrier", "async-start", "async-done", "async-update"),
}

Sent = dict[tuple[str, int, int], float]


@dataclasses.dataclass
class Cost:
  """What a program does on one device in one run.

  Attributes:
    flops: multiply-adds x 2 of its products.
    bytes: read and written by its operations, each from and to the main memory.
    roofline: seconds a rate of each, summed over operations; see `cost`.
    collectives: bytes that a device sends, by kind, devices of a group, and how many of
      them share a board (`groups.beside`).
  """

  flops: float = 0.0
  bytes: float = 0.0
  roofline: float = 0.0
  collectives: Sent = dataclasses.field(default_factory=dict)

  def add(self, other: "Cost", times: float = 1.0) -> None:
    self.flops += times * other.flops
    self.bytes += times * other.bytes
    self.roofline += times * other.roofline
    for key, value in other.collectives.items():
      self.collectives[key] = self.collectives.get(key, 0.0) + times * value


# (flops, bytes) of one operation -> seconds
Rate = Callable[[float, float], float]


def cost(
  text: str, loops: float = 1.0, seconds: Rate | None = None, host: bool = False
) -> Cost:
  """Counts a module, as often as each of its computations runs.

  Args:
    text: `compiled.as_text()`.
    loops: runs of a loop that does not tell its trips (of micro-batches, of decode
      steps): those are counts that the program is given.
    seconds: of an operation, for `Cost.roofline`; None leaves it 0.
    host: the text is of a CPU's compiler, and another machine is meant. A CPU's sends
      bfloat16 as float32, and sums whole arrays of which each device keeps a slice;
      this is counted as what it stands for. Of memory, only what no compiler saves is
      counted: operands and results of products, and the pass over the weights.
  """
  counter = _Counter(text, loops, seconds, host)
  return counter.computation(counter.entry)


class _Counter:
  def __init__(self, text: str, loops: float, seconds: Rate | None, host: bool):
    self._computations, self.entry = hlo.read(text)
    partitions = re.search(r"num_partitions=(\d+)", text.split("\n", 1)[0])
    self._devices = int(partitions[1]) if partitions else 1
    self._loops = loops
    self._seconds = seconds
    self._host = host
    self._channels: set[str] = set()  # of fused collectives that are counted
    self.computation = functools.cache(self._uncached)

  def _uncached(self, name: str) -> Cost:
    total = Cost()
    computation = self._computations.get(name, {})
    for instruction in computation.values():
      if instruction.op == "while":
        times = trips.count(self._computations, computation, instruction)
        times = self._loops if times is None else times
        total.add(self.computation(trips.body(instruction)), times)
      elif instruction.op in ("call", "conditional", "async-start"):
        for called in instruction.called:
          total.add(self.computation(called))
      else:
        cost = self._one(computation, instruction)
        if self._host and not cost.flops and name != self.entry:
          cost.bytes = 0.0
        total.add(cost)
    return total

  def _one(self, computation: hlo.Computation, instruction: hlo.Instruction) -> Cost:
    op = instruction.op.removesuffix("-start")
    if op in hlo.COLLECTIVES:
      return Cost(collectives=self._collective(computation, instruction, op))
    if op in FREE or op.endswith("-done"):
      return Cost()
    cost = Cost(flops=self._flops(computation, instruction))
    cost.bytes = traffic.moved(self._computations, computation, instruction)
    if self._seconds:
      cost.roofline = self._seconds(cost.flops, cost.bytes)
    if op == "fusion":
      cost.collectives = self._fused(instruction)
    return cost

  def _fused(self, fusion: hlo.Instruction) -> Sent:
    """Of the collectives in a TPU's fusions.

    A reduction is fused with the slice that a device keeps. A collective that goes on
    behind products stands in each of their fusions, and is one: the first.
    """
    sent: Sent = {}
    for called in fusion.called:
      inner = self._computations.get(called, {})
      channels = hlo.channels(inner)
      if channels and channels <= self._channels:
        continue
      self._channels |= channels
      scatter = "reduce-scatter" in called or "reduce-scatter" in fusion.name
      for (kind, *group), moved in self.computation(called).collectives.items():
        if scatter and kind == "all-reduce":
          kind, moved = "reduce-scatter", moved / 2
        key = kind, group[0], group[1]
        sent[key] = sent.get(key, 0.0) + moved
    return sent

  def _collective(
    self, computation: hlo.Computation, instruction: hlo.Instruction, op: str
  ) -> Sent:
    """Bytes that one device sends, as rings do it."""
    group = groups.members(instruction.rest, self._devices)
    size, beside = len(group), groups.beside(group)
    if size == 1:
      return {}
    part = (size - 1) / size
    times = {
      "all-gather": size - 1,
      "all-reduce": 2 * part,
      "reduce-scatter": part,
      "all-to-all": part,
      "ragged-all-to-all": part,
    }
    sent: Sent = {}
    for place, name in enumerate(instruction.operands):
      if name not in computation:
        continue
      given, kind = computation[name].bytes, op
      if self._host and self._widened(computation[name]):
        given /= 2
      if (
        self._host
        and op == "all-reduce"
        and self._sliced(computation, instruction, place)
      ):
        kind = "reduce-scatter"
      key = kind, size, beside
      sent[key] = sent.get(key, 0.0) + given * times.get(kind, 1.0)
    return sent

  def _widened(self, made: hlo.Instruction) -> bool:
    """Whether a float32 array holds what was bfloat16 a moment ago."""
    if made.shapes[0][0] != "f32":
      return False
    inner = (i for c in made.called for i in self._computations.get(c, {}).values())
    size = math.prod(made.dims)
    return any(
      i.shapes[0][0] == "bf16" and math.prod(i.dims) == size for i in inner if i.shapes
    )

  def _sliced(
    self, computation: hlo.Computation, made: hlo.Instruction, place: int
  ) -> bool:
    """Whether all that is used of a result is one slice of it."""
    name = made.name
    if len(made.shapes) > 1:
      name = next(
        (
          i.name
          for i in computation.values()
          if i.op == "get-tuple-element"
          and i.operands == (made.name,)
          and re.search(rf"index={place}\b", i.rest)
        ),
        "",
      )
    users = [i for i in computation.values() if name in i.operands]
    return bool(users) and all(
      user.op == "dynamic-slice"
      or (
        user.op == "fusion"
        and traffic.read(self._computations, user.called[0], user.operands.index(name))
        < computation[name].bytes
      )
      for user in users
    )

  def _flops(self, computation: hlo.Computation, instruction: hlo.Instruction) -> float:
    if instruction.op == "dot":
      return products.dot(computation, instruction)
    if instruction.op == "convolution":
      return products.convolution(computation, instruction)
    if instruction.op == "custom-call" and "matmul" in instruction.rest:
      return products.matmul(computation, instruction)
    if instruction.op == "fusion":
      return sum(
        self._flops(self._computations[called], inner)
        for called in instruction.called
        for inner in self._computations.get(called, {}).values()
      )
    return 0.0
