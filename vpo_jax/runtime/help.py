"""The `--help` of a stage: its config keys, defaults, and the comments beside them."""

import ast
import dataclasses
import importlib.util
import inspect
import itertools
import os
import pathlib
import shutil
import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Any

_LONGEST = 34  # characters of KEY=VALUE that stand on one line with the comment


def describe(config_file: str | os.PathLike[str]) -> list[tuple[str, Any, str]]:
  """Dotted key, default and comment of each key of a config file.

  Defaults are those of its `get_config()`. A key's comment is the one on the line that
  sets it, above that line, or above its section, in this file or in one that it calls.
  Where this file changes a value that another one set, the comment here counts.
  """
  module = _load(config_file)
  comments = _Reader().read(module.get_config, {})

  def comment(key: str) -> str:
    section = key.rpartition(".")[0]
    return comments.get(key) or comments.get(section, "")

  return [(k, v, comment(k)) for k, v in _flat(module.get_config().to_dict())]


def text(config_file: str | os.PathLike[str]) -> str:
  """`describe` as text for a terminal, one section after the other."""
  width = min(shutil.get_terminal_size().columns, 100)
  lines = ["", f"Config keys of {os.path.relpath(config_file)} (--config.KEY=VALUE):"]
  rows = describe(config_file)
  for _, section in itertools.groupby(rows, lambda row: row[0].rpartition(".")[0]):
    lines.append("")
    earlier = ""
    for key, value, comment in section:
      repeated = comment == earlier and len(comment) > 20  # the comment of a group
      lines += _entry(f"{key}={_shown(value)}", "" if repeated else comment, width)
      earlier = comment
  return "\n".join(lines)


def _entry(setting: str, comment: str, width: int) -> list[str]:
  column = _LONGEST + 4
  indent = " " * column
  wrapped = textwrap.wrap(comment, width - column)
  if len(setting) > _LONGEST or not wrapped:
    return [f"  {setting}", *(indent + line for line in wrapped)]
  first, *rest = wrapped
  return [f"  {setting:<{_LONGEST}}  {first}", *(indent + line for line in rest)]


def _shown(value: Any) -> str:
  shown = str(value) if value != "" else '""'
  return shown if len(shown) < 60 else f"{shown[:56]} ..."


def _load(path: str | os.PathLike[str]) -> types.ModuleType:
  spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
  assert spec
  assert spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Leaves by dotted key, those of a section before its subsections."""
  for key, value in tree.items():
    if not isinstance(value, Mapping):
      yield prefix + key, value
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f"{prefix}{key}.")


Names = Mapping[str, str]  # a variable that holds a part of the config: its dotted key


@dataclasses.dataclass
class _Reader:
  """Reads comments from the source of config functions, without running them.

  It knows the forms that configs/ uses: assignments to attributes, also through
  aliases; `update(key=value)`; dictionaries; and calls of functions that return a
  config or change the one that they get.
  """

  comments: dict[str, str] = dataclasses.field(default_factory=dict)

  def read(self, function: Any, names: Names, at: str = "") -> dict[str, str]:
    """Adds the comments of a function.

    Args:
      names: parameters of the function that are part of the config.
      at: the dotted key of what the function returns.
    """
    lines, _ = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    returned = [
      node.value.id
      for node in ast.walk(tree)
      if isinstance(node, ast.Return) and isinstance(node.value, ast.Name)
    ]
    body = _Body(self, function.__globals__, lines, dict.fromkeys(returned, at), at)
    body.names |= names
    body.walk(tree.body)
    return self.comments


@dataclasses.dataclass
class _Body:
  """The statements of one function.

  Attributes:
    names: variables that hold a part of the config, with its dotted key.
    at: the dotted key of what the function returns.
  """

  reader: _Reader
  globals: dict[str, Any]
  lines: list[str]
  names: dict[str, str]
  at: str
  above: str = ""  # a comment above earlier keys, which holds until the next one
  last: int = 0  # the line where that key ended

  def walk(self, statements: list[ast.stmt]) -> None:
    for statement in statements:
      if isinstance(statement, ast.Assign):
        self._assign(statement)
      elif isinstance(statement, ast.Expr):
        self._value(statement.value, "")
      elif isinstance(statement, ast.Return) and statement.value:
        self._value(statement.value, self.at)
      elif isinstance(statement, ast.If | ast.With):
        self.walk(statement.body)

  def _assign(self, statement: ast.Assign) -> None:
    keys = [key for target in statement.targets if (key := self._key(target))]
    for target in statement.targets:
      if isinstance(target, ast.Name) and keys:
        self.names[target.id] = keys[0]
      elif isinstance(target, ast.Name) and target.id in self.names:
        self._value(statement.value, self.names[target.id])
    for key in keys:
      self._set(key, statement, statement.value)

  def _set(self, key: str, node: Any, value: ast.expr) -> None:
    """Notes the comment of a key that `node` sets, and those inside of `value`."""
    comment = self._comment(
      node.lineno, node.end_lineno, isinstance(value, ast.Constant)
    )
    if comment:
      self.reader.comments[key] = comment
    self._value(value, key)

  def _value(self, value: ast.expr, key: str) -> None:
    """Reads an expression whose value is the part `key` of the config."""
    if isinstance(value, ast.Dict):
      for name, one in zip(value.keys, value.values, strict=True):
        if isinstance(name, ast.Constant):
          node = ast.Expr(one, lineno=name.lineno, end_lineno=one.end_lineno)
          self._set(_join(key, str(name.value)), node, one)
    elif isinstance(value, ast.Call):
      self._call(value, key)

  def _call(self, call: ast.Call, key: str) -> None:
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    held = self._key(owner) if owner is not None else None
    if held is not None and call.func.attr == "update":  # pyright: ignore[reportAttributeAccessIssue]
      for argument in call.args:
        self._value(argument, held)
      for keyword in call.keywords:
        if keyword.arg:
          self._set(_join(held, keyword.arg), keyword, keyword.value)
      return
    function = self._resolve(call.func)
    if inspect.isfunction(function):
      parameters = list(inspect.signature(function).parameters)
      given = {
        name: part
        for name, argument in zip(parameters, call.args, strict=False)
        if (part := self._key(argument)) is not None
      }
      self.reader.read(function, given, key)
    else:  # ConfigDict({...})
      for argument in call.args:
        self._value(argument, key)

  def _resolve(self, node: ast.expr) -> Any:
    """The function that a name or `module.name` means."""
    if isinstance(node, ast.Name):
      return self.globals.get(node.id)
    if isinstance(node, ast.Attribute):
      return getattr(self._resolve(node.value), node.attr, None)
    return None

  def _key(self, node: ast.expr) -> str | None:
    """The dotted key that an expression such as `config.rules` means."""
    if isinstance(node, ast.Name):
      return self.names.get(node.id)
    if isinstance(node, ast.Attribute):
      held = self._key(node.value)
      return None if held is None else _join(held, node.attr)
    return None

  def _comment(self, first: int, last: int, inside: bool) -> str:
    """The comment of lines `first` to `last`; those between are its own if `inside`."""
    numbers = range(first, last + 1) if inside else sorted({first, last})
    ends = [part for n in numbers if (part := _trailing(self.lines[n - 1]))]
    above = []
    while (line := self.lines[first - 2 - len(above)].strip()).startswith("#"):
      above.insert(0, line.lstrip("# "))
    adjoins, self.last = first == self.last + 1, last
    if above or ends or not adjoins:
      self.above = " ".join(above)
      return " ".join([*above, *ends])
    return self.above  # of a group of keys


def _join(key: str, name: str) -> str:
  return f"{key}.{name}" if key else name


def _trailing(line: str) -> str:
  """The comment at the end of a line of code."""
  quote = ""
  for place, letter in enumerate(line):
    if quote:
      quote = "" if letter == quote else quote
    elif letter in "\"'":
      quote = letter
    elif letter == "#":
      return line[place:].lstrip("# ").strip()
  return ""
