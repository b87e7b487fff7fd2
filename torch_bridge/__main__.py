"""Runs a program of this package by the path of its folder.

    /any/python /path/to/torch_bridge worker --job=...

So an interpreter of another environment finds this package, and nothing else of the
environment that holds it.
"""

import importlib
import importlib.util
import pathlib
import sys

_PROGRAMS = ("worker", "conformance", "sheet")


def _find_package() -> None:
  folder = pathlib.Path(__file__).resolve().parent
  sys.path[:] = [place for place in sys.path if place != str(folder)]
  spec = importlib.util.spec_from_file_location(
    "torch_bridge", folder / "__init__.py", submodule_search_locations=[str(folder)]
  )
  assert spec is not None
  assert spec.loader is not None
  package = importlib.util.module_from_spec(spec)
  sys.modules["torch_bridge"] = package
  spec.loader.exec_module(package)


if __name__ == "__main__":
  if len(sys.argv) < 2 or sys.argv[1] not in _PROGRAMS:
    print(f"usage: python -m torch_bridge {{{'|'.join(_PROGRAMS)}}} ...")
    raise SystemExit(2)
  if __package__ == "":
    _find_package()
  program = importlib.import_module(f"torch_bridge.{sys.argv[1]}")
  raise SystemExit(program.main(sys.argv[2:]))
