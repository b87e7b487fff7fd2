"""Strings and settings of a Python file, which is parsed and never executed."""

import ast
import pathlib
from collections.abc import Mapping
from typing import Any

from vpo_jax import errors
from vpo_jax.evaluate.systems import message_template

_SETTINGS = ("temperature", "top_p", "max_tokens")
_VERSION = "use the version of the checkout that docs/baselines.md names"


class Source:
  """A Python file of a checkout."""

  def __init__(self, path: pathlib.Path):
    """Parses the file.

    Raises:
      UserError: it cannot be read, or is not Python.
    """
    self.path = path
    self.tree = _parse(path)
    self.names: dict[str, str] = {}
    for node in self.tree.body:
      if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        found = string(node.value, {})
        if found is not None:
          self.names[node.targets[0].id] = found

  def constant(self, name: str) -> str:
    """The string that is assigned to a name.

    Raises:
      UserError: there is none.
    """
    if name not in self.names:
      raise errors.UserError(f"{self.path}: assigns no text to {name}; {_VERSION}")
    return self.names[name]

  def chat(self, system: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The messages and settings of the first call whose system message is a constant.

    A name that is no constant stands for the query.

    Args:
      system: the constant's name.

    Raises:
      UserError: there is no such call, or a message is not made of constants.
    """
    text = self.constant(system)
    for node in ast.walk(self.tree):
      if not isinstance(node, ast.Call):
        continue
      given = {one.arg: one.value for one in node.keywords if one.arg}
      messages = [_message(one, self.names) for one in _elements(given.get("messages"))]
      if messages and messages[0] == {"role": "system", "content": text}:
        return self._whole(messages, node.lineno), _settings(given)
    raise errors.UserError(
      f"{self.path}: no call has messages that begin with {system}; {_VERSION}"
    )

  def _whole(self, messages: list[Any], line: int) -> list[dict[str, str]]:
    roles = [one and one["role"] for one in messages]
    count = (len(messages) - 2) // 2
    if roles != ["system", *("user", "assistant") * count, "user"]:
      raise errors.UserError(
        f"{self.path}:{line}: the messages are not a system message, examples and a"
        " query"
      )
    return messages

  def number(self, name: str) -> int:
    """The value of a call's argument, of the first call that has it as a number.

    Raises:
      UserError: no call has.
    """
    for node in ast.walk(self.tree):
      if isinstance(node, ast.keyword) and node.arg == name:
        value = node.value
        if isinstance(value, ast.Constant) and isinstance(value.value, int):
          return value.value
    raise errors.UserError(f"{self.path}: no call has a number for {name}")

  def defaults(self, name: str, method: str) -> dict[str, Any]:
    """The settings among the default arguments of a class's method.

    Raises:
      UserError: there is no such class or method.
    """
    for node in self.tree.body:
      if isinstance(node, ast.ClassDef) and node.name == name:
        for one in node.body:
          if isinstance(one, ast.FunctionDef) and one.name == method:
            args = one.args
            given = zip(args.args[::-1], args.defaults[::-1], strict=False)
            return _settings({arg.arg: value for arg, value in given})
    raise errors.UserError(f"{self.path}: no class {name} with a method {method}")


def string(node: ast.AST, names: Mapping[str, str], other: str = "") -> str | None:
  """The string of an expression of constants, names, f-strings and sums.

  Args:
    other: stands for names that are not constants; "" lets them fail.

  Returns: None if the expression is anything else.
  """
  if isinstance(node, ast.Constant):
    return node.value if isinstance(node.value, str) else None
  if isinstance(node, ast.Name):
    return names.get(node.id, other or None)
  parts: list[ast.AST] = []
  if isinstance(node, ast.JoinedStr):
    parts = [
      one.value if isinstance(one, ast.FormattedValue) else one for one in node.values
    ]
  elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
    parts = [node.left, node.right]
  texts = [string(part, names, other) for part in parts]
  found = [text for text in texts if text is not None]
  return "".join(found) if parts and len(found) == len(texts) else None


def _settings(given: Mapping[str, ast.AST]) -> dict[str, Any]:
  """The settings among the arguments of a call that are constants."""
  return {
    name: value.value
    for name, value in given.items()
    if name in _SETTINGS and isinstance(value, ast.Constant)
  }


def _elements(node: ast.AST | None) -> list[ast.expr]:
  return node.elts if isinstance(node, ast.List) else []


def _message(node: ast.AST, names: Mapping[str, str]) -> dict[str, str] | None:
  """The role and the text of a message; None if they are not constants."""
  if not isinstance(node, ast.Dict):
    return None
  pairs = zip(node.keys, node.values, strict=True)
  found = {
    key.value: string(value, names, message_template.QUERY)
    for key, value in pairs
    if isinstance(key, ast.Constant)
  }
  role, content = found.get("role"), found.get("content")
  return {"role": role, "content": content} if role and content is not None else None


def _parse(path: pathlib.Path) -> ast.Module:
  text = read(path)
  try:
    return ast.parse(text)
  except (SyntaxError, ValueError, RecursionError) as error:
    raise errors.UserError(f"{path}: not Python: {error}") from error


def read(path: pathlib.Path) -> str:
  """A file's text.

  Raises:
    UserError: it cannot be read, or is not UTF-8.
  """
  try:
    return path.read_text(encoding="utf-8")
  except OSError as error:
    raise errors.UserError(
      f"{path}: cannot be read: {error.strerror}; {_VERSION}"
    ) from error
  except UnicodeDecodeError as error:
    raise errors.UserError(f"{path}: byte {error.start} is not UTF-8") from error
