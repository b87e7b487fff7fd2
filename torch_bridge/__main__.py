"""Runs a program of this package by the path of its folder.

    /any/python /path/to/torch_bridge worker --job=...

So an interpreter of another environment can import this package without importing
anything else from the environment that installed it.
"""

import importlib
import importlib.util
import pathlib
import sys

_PROGRAMS = {
  "worker": "torch_bridge.worker",
  "conformance": "torch_bridge.conformance",
  "sheet": "torch_bridge.sheet",
  "train": "torch_bridge.diffusion.train",
}


def _register_package() -> None:
  folder = pathlib.Path(__file__).resolve().parent
  sys.path[:] = [entry for entry in sys.path if entry != str(folder)]
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
    _register_package()
  program = importlib.import_module(_PROGRAMS[sys.argv[1]])
  raise SystemExit(program.main(sys.argv[2:]))
