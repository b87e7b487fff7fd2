"""XLA's HLO text, read into instructions."""

import dataclasses
import math
import re
from collections.abc import Iterable

COLLECTIVES = (
  *("all-gather", "all-reduce", "reduce-scatter", "all-to-all"),
  *("collective-permute", "ragged-all-to-all", "collective-broadcast"),
)

_BITS = {"pred": 8, "token": 0, "opaque": 0}  # others tell theirs: f32, bf16, s4

_INSTRUCTION = re.compile(r"^\s*(ROOT\s+)?%?([\w.\-]+) = (.*)$")
# A type, sizes, and of a layout the memory space: f32[8,128]{1,0:T(8,128)S(1)}
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{[^}]*?(?:S\((\d+)\)[^}]*)?\})?")
_CALLED = re.compile(
  r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line.

  Attributes:
    shapes: type and sizes of the result's arrays; several where it is a tuple.
    operands: names of what it is made from.
    inside: what stands between the operation's parentheses; a parameter's number.
    rest: what stands behind them: attributes, called computations.
    root: it is its computation's result.
    near: of each of the shapes, whether it lies in a memory of the chip's own (a TPU's
      VMEM is space 1), not in the main one.
  """

  name: str
  op: str
  shapes: tuple[tuple[str, tuple[int, ...]], ...]
  operands: tuple[str, ...]
  inside: str
  rest: str
  root: bool
  near: tuple[bool, ...]

  @property
  def bytes(self) -> int:
    return sum(_bytes(shape) for shape in self.shapes)

  @property
  def far_bytes(self) -> int:
    """Bytes in the main memory."""
    parts = zip(self.shapes, self.near, strict=True)
    return sum(_bytes(shape) for shape, near in parts if not near)

  @property
  def dims(self) -> tuple[int, ...]:
    return self.shapes[0][1]

  @property
  def carried(self) -> dict[int, int]:
    """Which elements of its result are an operand's own memory, and whose."""
    pairs = re.search(r"output_to_operand_aliasing=\{(.*?\))\}", self.rest)
    found = re.findall(r"\{(\d*)\}: \((\d+)", pairs[1]) if pairs else []
    return {int(out or 0): int(operand) for out, operand in found}

  @property
  def called(self) -> list[str]:
    branches = _BRANCHES.search(self.rest)
    listed = branches[1].split(",") if branches else []
    return [n.strip().lstrip("%") for n in (*_CALLED.findall(self.rest), *listed)]


Computation = dict[str, Instruction]


def channels(computation: Computation) -> set[str]:
  """Numbers of the collectives that stand in a computation."""
  return {
    number
    for i in computation.values()
    if i.op.removesuffix("-start") in COLLECTIVES
    for number in re.findall(r"channel_id=(\d+)", i.rest)
  }


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
  found = tuple(_shapes(made))
  shapes, near = tuple(x[:2] for x in found), tuple(x[2] for x in found)
  return Instruction(name, op[1], shapes, operands, inside, rest, root, near)


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


def _shapes(text: str) -> Iterable[tuple[str, tuple[int, ...], bool]]:
  for kind, dims, space in _SHAPE.findall(re.sub(r"/\*.*?\*/", "", text)):
    sizes = dims.replace("<=", "").split(",")
    yield kind, tuple(int(size) for size in sizes if size), space not in ("", "0")


def _bytes(shape: tuple[str, tuple[int, ...]]) -> int:
  kind, dims = shape
  return math.ceil(math.prod(dims) * _bits(kind) / 8)


def _bits(kind: str) -> int:
  if kind in _BITS:
    return _BITS[kind]
  digits = re.search(r"\d+", kind)  # the first: f8e4m3fn has 8
  return int(digits[0]) if digits else 8
