"""Loads a node package and executes workflows, as far as ComfyUI's contract goes.

For nodes of the classic kind, without lists, hidden inputs and asynchronous functions.
"""

import importlib.util
import inspect
import sys

TYPES = {"STRING": str, "INT": int, "FLOAT": float}
ANY = "*"


def load(folder):
  """The package in `folder`, imported under its path as ComfyUI does."""
  name = str(folder).replace(".", "_x_")
  spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
  package = importlib.util.module_from_spec(spec)
  sys.modules[name] = package
  spec.loader.exec_module(package)
  return package


def check(node):
  """Asserts that a class is a node whose declarations fit its function."""
  required = node.INPUT_TYPES()["required"]
  assert set(node.INPUT_TYPES()) == {"required"}
  for name, (kind, options) in required.items():
    default = options.get("default", TYPES[kind]())
    assert type(default) is TYPES[kind], name
    if kind != "STRING":
      assert options["min"] <= default <= options["max"], name
  function = getattr(node(), node.FUNCTION)
  inspect.signature(function).bind(**dict.fromkeys(required))
  assert isinstance(node.CATEGORY, str)
  assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS)
  assert set(node.RETURN_TYPES) <= set(TYPES)


class Show:
  """ComfyUI's node PreviewAny: shows its input."""

  RETURN_TYPES = ()
  FUNCTION = "show"
  OUTPUT_NODE = True

  @classmethod
  def INPUT_TYPES(cls):
    return {"required": {"source": (ANY, {})}}

  def show(self, source):
    return {"ui": {"text": (source,)}}


class Executor:
  """Executes workflows in the API format, and keeps outputs whose inputs are the same.

  Attributes:
    executed: ids of the nodes that ran in the last workflow.
  """

  def __init__(self, mappings):
    self._nodes = {"PreviewAny": Show, **mappings}
    self._cache = {}

  def run(self, workflow):
    """The text that each PreviewAny shows, by the id of the node.

    Raises:
      ValueError: an input is missing, of another type, or out of its range.
    """
    self.executed = []
    # ComfyUI checks the whole workflow before it runs a node.
    for number in workflow:
      self._validate(workflow, number)
    shown = [n for n, node in workflow.items() if node["class_type"] == "PreviewAny"]
    return {number: self._run(workflow, number)["ui"]["text"][0] for number in shown}

  def _validate(self, workflow, number):
    given = workflow[number]["inputs"]
    declared = self._nodes[workflow[number]["class_type"]].INPUT_TYPES()["required"]
    for name, (kind, options) in declared.items():
      if name not in given:
        raise ValueError(f"{name} is missing")
      value = given[name]
      if isinstance(value, list):
        source = self._nodes[workflow[value[0]]["class_type"]]
        if kind not in (ANY, source.RETURN_TYPES[value[1]]):
          raise ValueError(f"{name} is linked to another type")
        continue
      given[name] = value = TYPES[kind](value)
      if value < options.get("min", value) or value > options.get("max", value):
        raise ValueError(f"{name}={value} is out of range")

  def _run(self, workflow, number):
    node = self._nodes[workflow[number]["class_type"]]
    values = {
      name: self._run(workflow, value[0])[value[1]]
      if isinstance(value, list)
      else value
      for name, value in workflow[number]["inputs"].items()
    }
    changed = getattr(node, "IS_CHANGED", lambda **_: False)(**values)
    key = repr((node.__name__, changed, sorted(values.items())))
    if key not in self._cache:
      self.executed.append(number)
      self._cache[key] = getattr(node(), node.FUNCTION)(**values)
    return self._cache[key]
