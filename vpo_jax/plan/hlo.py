"""Parses XLA's HLO text into instructions."""

import dataclasses
import math
import re
from collections.abc import Iterable

COLLECTIVES = (
  *("all-gather", "all-reduce", "reduce-scatter", "all-to-all"),
  *("collective-permute", "ragged-all-to-all", "collective-broadcast"),
)

_BITS = {"pred": 8, "token": 0, "opaque": 0}  # other names have digits: f32, bf16, s4

_INSTRUCTION = re.compile(r"^\s*(ROOT\s+)?%?([\w.\-]+) = (.*)$")
# Type, sizes, and the layout's memory space: f32[8,128]{1,0:T(8,128)S(1)}
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{[^}]*?(?:S\((\d+)\)[^}]*)?\})?")
_CALLED = re.compile(
  r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One instruction of a computation.

  Attributes:
    shapes: element type and sizes of each array of the result (a tuple has several).
    operands: names of the operands.
    arguments: text between the operation's parentheses; a parameter's number.
    attributes: text after them: attributes and called computations.
    root: whether this is the result of its computation.
    on_chip: for each array of the result, whether it is in on-chip memory (memory
      space 1 is a TPU's VMEM) instead of main memory.
  """

  name: str
  op: str
  shapes: tuple[tuple[str, tuple[int, ...]], ...]
  operands: tuple[str, ...]
  arguments: str
  attributes: str
  root: bool
  on_chip: tuple[bool, ...]

  @property
  def bytes(self) -> int:
    return sum(array_bytes(*shape) for shape in self.shapes)

  @property
  def main_bytes(self) -> int:
    """Bytes of the result in main memory."""
    arrays = zip(self.shapes, self.on_chip, strict=True)
    return sum(array_bytes(*shape) for shape, on_chip in arrays if not on_chip)

  @property
  def dims(self) -> tuple[int, ...]:
    return self.shapes[0][1]

  @property
  def aliases(self) -> dict[int, int]:
    """Result elements that share an operand's memory: element index to operand."""
    pairs = re.search(r"output_to_operand_aliasing=\{(.*?\))\}", self.attributes)
    found = re.findall(r"\{(\d*)\}: \((\d+)", pairs[1]) if pairs else []
    return {int(out or 0): int(operand) for out, operand in found}

  @property
  def called(self) -> list[str]:
    """Names of the computations that it calls."""
    branches = _BRANCHES.search(self.attributes)
    names = [*_CALLED.findall(self.attributes)]
    names += branches[1].split(",") if branches else []
    return [name.strip().lstrip("%") for name in names]


Computation = dict[str, Instruction]


def channels(computation: Computation) -> set[str]:
  """Channel ids of a computation's collectives."""
  return {
    number
    for i in computation.values()
    if i.op.removesuffix("-start") in COLLECTIVES
    for number in re.findall(r"channel_id=(\d+)", i.attributes)
  }


def read(text: str) -> tuple[dict[str, Computation], str]:
  """Parses a module: its computations by name, and the name of the entry."""
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
  result, after = _result(text)
  op = re.match(r"\s*([\w\-]+)\(", after)
  if not op:
    return None
  arguments, attributes = _parentheses(after[op.end() - 1 :])
  arrays = tuple(_arrays(result))
  return Instruction(
    name=name,
    op=op[1],
    shapes=tuple(array[:2] for array in arrays),
    operands=tuple(re.findall(r"%([\w.\-]+)", arguments)),
    arguments=arguments,
    attributes=attributes,
    root=root,
    on_chip=tuple(array[2] for array in arrays),
  )


def _result(text: str) -> tuple[str, str]:
  """Splits off the result's type, which may be a tuple."""
  if text.startswith("("):
    return _parentheses(text)
  end = text.index(" ")
  return text[:end], text[end:]


def _parentheses(text: str) -> tuple[str, str]:
  """Text inside the parentheses that `text` begins with, and the text after them."""
  depth = 0
  for index, character in enumerate(text):
    depth += (character == "(") - (character == ")")
    if not depth:
      return text[1:index], text[index + 1 :]
  return text[1:], ""


def _arrays(text: str) -> Iterable[tuple[str, tuple[int, ...], bool]]:
  """Yields element type, sizes, and whether the array is in on-chip memory."""
  for kind, dims, space in _SHAPE.findall(re.sub(r"/\*.*?\*/", "", text)):
    sizes = dims.replace("<=", "").split(",")
    yield kind, tuple(int(size) for size in sizes if size), space not in ("", "0")


def array_bytes(kind: str, dims: tuple[int, ...]) -> int:
  """Bytes of an array with element type `kind` (f32, bf16, s4, pred, ...)."""
  return math.ceil(math.prod(dims) * _bits(kind) / 8)


def _bits(kind: str) -> int:
  if kind in _BITS:
    return _BITS[kind]
  digits = re.search(r"\d+", kind)  # the first number: f8e4m3fn has 8 bits
  return int(digits[0]) if digits else 8
