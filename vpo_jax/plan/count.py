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

from vpo_jax.plan import hlo, products, trips

FREE = {  # move nothing, or are counted elsewhere
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
  *("while", "conditional", "call", "iota", "partition-id", "replica-id"),
  *("opt-barrier", "async-start", "async-done", "async-update"),
}
COLLECTIVES = (
  *("all-gather", "all-reduce", "reduce-scatter", "all-to-all"),
  *("collective-permute", "ragged-all-to-all", "collective-broadcast"),
)


@dataclasses.dataclass
class Cost:
  """What a program does on one device in one run.

  Attributes:
    flops: multiply-adds x 2 of its products.
    bytes: read and written by its operations, each from and to the main memory.
    roofline: seconds a rate of each, summed over operations; see `cost`.
    collectives: bytes that a device sends, by (kind, devices of a group).
  """

  flops: float = 0.0
  bytes: float = 0.0
  roofline: float = 0.0
  collectives: dict[tuple[str, int], float] = dataclasses.field(default_factory=dict)

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
    if op in COLLECTIVES:
      return Cost(collectives=self._collective(computation, instruction, op))
    if op in FREE or op.endswith("-done"):
      return Cost()
    cost = Cost(flops=self._flops(computation, instruction))
    cost.bytes = self._moved(computation, instruction)
    if self._seconds:
      cost.roofline = self._seconds(cost.flops, cost.bytes)
    if op == "fusion":  # a TPU fuses a reduction with the slice that a device keeps
      for called in instruction.called:
        inner = self.computation(called).collectives
        scatter = "reduce-scatter" in called or "reduce-scatter" in instruction.name
        for (kind, size), moved in inner.items():
          if scatter and kind == "all-reduce":
            kind, moved = "reduce-scatter", moved / 2
          cost.collectives[kind, size] = cost.collectives.get((kind, size), 0) + moved
    return cost

  def _collective(
    self, computation: hlo.Computation, instruction: hlo.Instruction, op: str
  ) -> dict[tuple[str, int], float]:
    """Bytes that one device sends, as rings do it."""
    size = _group(instruction.rest) or self._devices
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
    sent: dict[tuple[str, int], float] = {}
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
      sent[kind, size] = sent.get((kind, size), 0.0) + given * times.get(kind, 1.0)
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
        and self._read(user.called[0], user.operands.index(name))
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

  def _moved(self, computation: hlo.Computation, instruction: hlo.Instruction) -> float:
    """Bytes that an operation reads from the main memory and writes to it."""
    operands = [computation[n] for n in instruction.operands if n in computation]
    if instruction.op == "copy-start":  # its result names what it reads, too
      return instruction.far_bytes
    if instruction.op in ("dynamic-slice", "slice", "gather"):
      read = min(instruction.bytes, operands[0].far_bytes)
      return read + instruction.far_bytes
    if instruction.op in ("dynamic-update-slice", "scatter"):
      update = sum(operand.bytes for operand in operands[1:])
      return min(update, instruction.far_bytes) + sum(o.far_bytes for o in operands[1:])
    if instruction.op != "fusion":
      return instruction.far_bytes + sum(operand.far_bytes for operand in operands)
    called = instruction.called[0]
    reads = sum(
      min(self._read(called, number), operand.far_bytes)
      for number, operand in enumerate(operands)
    )
    return reads + _written(self._computations.get(called, {}), instruction)

  def _read(self, called: str, number: int) -> float:
    """Bytes that a fusion reads of a parameter: slices where it only slices."""
    fused, place = self._computations.get(called, {}), ("parameter", str(number))
    name = next((i.name for i in fused.values() if (i.op, i.inside) == place), "")
    return self._used(fused, name)

  def _used(self, fused: hlo.Computation, name: str) -> float:
    total = 0.0
    for user in (i for i in fused.values() if name in i.operands):
      if user.op in ("dynamic-slice", "gather") and user.operands[0] == name:
        total += user.bytes
      elif user.op == "dynamic-update-slice" and user.operands[0] == name:
        continue  # written in place
      elif (
        user.op in ("bitcast", "reshape", "copy") and user.bytes == fused[name].bytes
      ):
        total += self._used(fused, user.name)
      elif user.op == "fusion":  # a TPU's have fusions in them
        total += self._read(user.called[0], user.operands.index(name))
      else:
        return math.inf
    return total


def _written(fused: hlo.Computation, fusion: hlo.Instruction) -> float:
  root = next((i for i in fused.values() if i.root), None)
  roots = (
    [fused.get(n) for n in root.operands] if root and root.op == "tuple" else [root]
  )
  total = 0.0
  for made in roots:
    while made and made.op in ("bitcast", "copy") and made.operands[0] in fused:
      made = fused[made.operands[0]]
    if made and made.op == "dynamic-update-slice":
      total += fused[made.operands[1]].bytes if made.operands[1] in fused else 0
    else:
      total += made.bytes if made else 0
  return min(total, fusion.far_bytes) if roots != [None] else fusion.far_bytes


def _group(text: str) -> int:
  """Devices that take part together; 0 is all of them.

  Written {{0,1},{2,3}}, [2,4]<=[8], or mesh['a'=2,'b'=4] {'b'}, where 'b':(1)2 is a
  part of an axis.
  """
  if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", text):
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
    axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[2])
    return math.prod(int(part or sizes[axis]) for axis, part in axes)
  if found := re.search(r"replica_groups=\[(\d+),(\d+)\]", text):
    return int(found[2])
  if found := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
    return len(found[1].split(","))
  return 2 if "source_target_pairs={{" in text else 0
