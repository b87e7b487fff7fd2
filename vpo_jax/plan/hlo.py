"""What a compiled program does: a reader of XLA's HLO text.

XLA's own cost analysis counts a loop's body once and knows no interconnect. Here every
computation is counted as often as it runs: loops carry their trip counts in the text
(`known_trip_count`), products inside fusions are found, and a stacked weight of which a
loop slices one layer is read a layer at a time.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterable

BYTES = {"pred": 1, "token": 0, "opaque": 0}  # others tell their bits: f32, bf16, s4
FREE = {  # move nothing, or are counted elsewhere
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
  *("while", "conditional", "call", "iota", "partition-id", "replica-id"),
  *("opt-barrier", "async-start", "async-done", "async-update"),
}
COLLECTIVES = (
  *("all-gather", "all-reduce", "reduce-scatter", "all-to-all"),
  *("collective-permute", "ragged-all-to-all", "collective-broadcast"),
)

_INSTRUCTION = re.compile(r"^\s*(ROOT\s+)?%?([\w.\-]+) = (.*)$")
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\]")
_CALLED = re.compile(
  r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'known_trip_count"?[:=]\s*\{\s*"?n"?\s*[:=]\s*"?(\d+)')


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line: what it makes, from what, how. `shapes` are the result's arrays."""

  name: str
  op: str
  shapes: tuple[tuple[str, tuple[int, ...]], ...]
  operands: tuple[str, ...]
  inside: str
  rest: str
  root: bool

  @property
  def bytes(self) -> int:
    return sum(_bytes(shape) for shape in self.shapes)

  @property
  def dims(self) -> tuple[int, ...]:
    return self.shapes[0][1]

  @property
  def called(self) -> list[str]:
    branches = _BRANCHES.search(self.rest)
    listed = branches[1].split(",") if branches else []
    return [n.strip().lstrip("%") for n in (*_CALLED.findall(self.rest), *listed)]


Computation = dict[str, Instruction]


@dataclasses.dataclass
class Cost:
  """What a program does on one device in one run.

  Attributes:
    flops: multiply-adds x 2 of its products.
    bytes: read and written by its operations, each from and to the main memory.
    roofline: seconds a rate of each, summed over operations; see `Reader`.
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


def read(text: str) -> tuple[dict[str, Computation], str]:
  """The computations of a module by name, and the entry's name."""
  computations: dict[str, Computation] = {}
  current: Computation = {}
  entry = ""
  for line in text.splitlines():
    if line and not line[0].isspace() and line.rstrip().endswith("{"):
      header = line.split()
      if header[0] == "HloModule":
        continue
      name = header[1] if header[0] == "ENTRY" else header[0]
      name = name.split("(")[0].lstrip("%")
      entry = name if header[0] == "ENTRY" else entry
      current = computations.setdefault(name, {})
    elif found := _INSTRUCTION.match(line):
      instruction = _instruction(found[2], found[3], bool(found[1]))
      if instruction:
        current[instruction.name] = instruction
  return computations, entry


def _instruction(name: str, text: str, root: bool) -> Instruction | None:
  made, after = _result(text)
  op = re.match(r"\s*([\w\-]+)\(", after)
  if not op:
    return None
  inside, rest = _parentheses(after[op.end() - 1 :])
  operands = tuple(re.findall(r"%([\w.\-]+)", inside))
  shapes = tuple(_shapes(made))
  return Instruction(name, op[1], shapes, operands, inside, rest, root)


def _result(text: str) -> tuple[str, str]:
  """The result's type, which may be a tuple's, and what stands after it."""
  if text.startswith("("):
    inside, rest = _parentheses(text)
    return inside, rest
  end = text.index(" ")
  return text[:end], text[end:]


def _parentheses(text: str) -> tuple[str, str]:
  depth = 0
  for place, letter in enumerate(text):
    depth += (letter == "(") - (letter == ")")
    if not depth:
      return text[1:place], text[place + 1 :]
  return text[1:], ""


def _shapes(text: str) -> Iterable[tuple[str, tuple[int, ...]]]:
  for kind, dims in _SHAPE.findall(re.sub(r"/\*.*?\*/", "", text)):
    sizes = re.sub(r"<=", "", dims)
    yield kind, tuple(int(size) for size in sizes.split(",") if size)


def _bytes(shape: tuple[str, tuple[int, ...]]) -> int:
  kind, dims = shape
  return math.ceil(math.prod(dims) * _bits(kind) / 8)


def _bits(kind: str) -> int:
  if kind in BYTES:
    return 8 * BYTES[kind]
  digits = re.search(r"\d+", kind)  # the first: f8e4m3fn has 8
  return int(digits[0]) if digits else 8


# (flops, bytes) of one operation -> seconds
Rate = Callable[[float, float], float]


class Reader:
  """Counts a module.

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

  def __init__(
    self,
    text: str,
    loops: float = 1.0,
    seconds: Rate | None = None,
    host: bool = False,
  ):
    self._host = host
    self._computations, self._entry = read(text)
    partitions = re.search(r"num_partitions=(\d+)", text.split("\n", 1)[0])
    self._devices = int(partitions[1]) if partitions else 1
    self._loops = loops
    self._seconds = seconds
    self._computation = functools.cache(self._uncached)

  def cost(self) -> Cost:
    return self._computation(self._entry)

  def _uncached(self, name: str) -> Cost:
    total = Cost()
    computation = self._computations.get(name, {})
    for instruction in computation.values():
      if instruction.op == "while":
        trips = _TRIPS.search(instruction.rest)
        times = float(trips[1]) if trips else self._loops
        total.add(self._computation(_body(instruction)), times)
      elif instruction.op in ("call", "conditional", "async-start"):
        for called in instruction.called:
          total.add(self._computation(called))
      else:
        cost = self._one(computation, instruction)
        if self._host and not cost.flops and name != self._entry:
          cost.bytes = 0.0
        total.add(cost)
    return total

  def _one(self, computation: Computation, instruction: Instruction) -> Cost:
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
        inner = self._computation(called).collectives
        scatter = "reduce-scatter" in called or "reduce-scatter" in instruction.name
        for (kind, size), moved in inner.items():
          if scatter and kind == "all-reduce":
            kind, moved = "reduce-scatter", moved / 2
          cost.collectives[kind, size] = cost.collectives.get((kind, size), 0) + moved
    return cost

  def _collective(
    self, computation: Computation, instruction: Instruction, op: str
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

  def _widened(self, made: Instruction) -> bool:
    """Whether a float32 array holds what was bfloat16 a moment ago."""
    if made.shapes[0][0] != "f32":
      return False
    inner = (i for c in made.called for i in self._computations.get(c, {}).values())
    size = math.prod(made.dims)
    return any(
      i.shapes[0][0] == "bf16" and math.prod(i.dims) == size for i in inner if i.shapes
    )

  def _sliced(self, computation: Computation, made: Instruction, place: int) -> bool:
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
        and _read(self._computations[user.called[0]], user.operands.index(name))
        < computation[name].bytes
      )
      for user in users
    )

  def _flops(self, computation: Computation, instruction: Instruction) -> float:
    if instruction.op == "dot":
      return _dot(computation, instruction)
    if instruction.op == "convolution":
      return _convolution(computation, instruction)
    if instruction.op == "custom-call" and "matmul" in instruction.rest:
      return _matmul(computation, instruction)
    if instruction.op == "fusion":
      return sum(
        self._flops(self._computations[called], inner)
        for called in instruction.called
        for inner in self._computations.get(called, {}).values()
      )
    return 0.0

  def _moved(self, computation: Computation, instruction: Instruction) -> float:
    """Bytes that an operation reads and writes."""
    operands = [computation[n] for n in instruction.operands if n in computation]
    if instruction.op in ("dynamic-slice", "slice", "gather"):
      return 2 * instruction.bytes
    if instruction.op in ("dynamic-update-slice", "scatter"):
      return 2 * sum(operand.bytes for operand in operands[1:])
    if instruction.op != "fusion":
      return instruction.bytes + sum(operand.bytes for operand in operands)
    inner = self._computations.get(instruction.called[0], {})
    reads = sum(
      min(_read(inner, number), operand.bytes)
      for number, operand in enumerate(operands)
    )
    return reads + _written(inner, instruction)


def _body(instruction: Instruction) -> str:
  found = re.search(r"body=%?([\w.\-]+)", instruction.rest)
  assert found, instruction
  return found[1]


def _read(fused: Computation, number: int) -> float:
  """Bytes that a fusion reads of its parameter: slices where it only slices."""
  name = next(
    (i.name for i in fused.values() if (i.op, i.inside) == ("parameter", str(number))),
    "",
  )
  return _used(fused, name)


def _used(fused: Computation, name: str) -> float:
  total = 0.0
  for user in (i for i in fused.values() if name in i.operands):
    if user.op in ("dynamic-slice", "gather") and user.operands[0] == name:
      total += user.bytes
    elif user.op == "dynamic-update-slice" and user.operands[0] == name:
      continue  # written in place
    elif user.op in ("bitcast", "reshape", "copy") and user.bytes == fused[name].bytes:
      total += _used(fused, user.name)
    else:
      return math.inf
  return total


def _written(fused: Computation, fusion: Instruction) -> float:
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
  return min(total, fusion.bytes) if roots != [None] else fusion.bytes


def _dims(text: str, name: str) -> tuple[int, ...]:
  found = re.search(name + r"=\{([\d,]*)\}", text)
  return tuple(int(d) for d in found[1].split(",") if d) if found else ()


def _dot(computation: Computation, dot: Instruction) -> float:
  left = computation[dot.operands[0]].dims
  contracted = [left[d] for d in _dims(dot.rest, "lhs_contracting_dims")]
  return 2.0 * math.prod(dot.dims) * math.prod(contracted)


def _matmul(computation: Computation, call: Instruction) -> float:
  """A library's product: [.., m, k] by [.., k, n], either of them turned."""
  left, right = (computation[n].dims for n in call.operands[:2])
  out = math.prod(call.dims)
  batch = math.prod(left[:-2]) or 1
  shared = math.prod(left) * math.prod(right) / (out * batch)  # k squared
  return 2.0 * out * math.sqrt(shared)


def _convolution(computation: Computation, conv: Instruction) -> float:
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
    flops *= _valid(
      lhs[labels[1].index(str(axis))],
      conv.dims[labels[3].index(str(axis))],
      **{name: _window(value, axis) for name, value in options.items()},
    )
  return flops


def _window(value: str, axis: int) -> str:
  return value.split("x")[axis]


def _valid(length: int, out: int, size="1", stride="1", pad="0_0", **more: str) -> int:
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
