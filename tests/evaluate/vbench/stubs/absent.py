"""Names that VBench imports but does not use in these tests."""

from typing import Any


def __getattr__(name: str) -> Any:
  if name.startswith("__"):
    raise AttributeError(name)
  return _Absent(name)


class _Absent:
  def __init__(self, name: str):
    self._name = name

  def __getattr__(self, name: str) -> Any:
    return _Absent(f"{self._name}.{name}")

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError(f"{self._name} is not installed for the tests")
