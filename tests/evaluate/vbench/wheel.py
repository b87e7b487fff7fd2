"""The wheel of VBench, which `make test` installs; its code is run as it is.

Its imports that are not installed are in `stubs`.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def folder(name: str = "vbench") -> pathlib.Path:
  """The folder of one of its packages, without importing it."""
  spec = importlib.util.find_spec(name)
  assert spec, "VBench is not installed; run: make test"
  return pathlib.Path(spec.submodule_search_locations[0])


INFO = folder() / "VBench_full_info.json"


def interpreter(path: pathlib.Path, *packages: str | os.PathLike) -> str:
  """Writes an executable that is Python with these folders of packages first."""
  path.write_text(
    f"#!{sys.executable}\n"
    "import os, sys\n"
    f"os.environ['PYTHONPATH'] = {os.pathsep.join(map(str, packages))!r}\n"
    f"os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])\n"
  )
  path.chmod(0o755)
  return str(path)


def run(code: str, *arguments: str | os.PathLike) -> str:
  """Runs code with the wheel and the stubs; returns what it printed."""
  done = subprocess.run(
    [sys.executable, "-c", code, *map(str, arguments)],
    env=os.environ | {"PYTHONPATH": str(HERE / "stubs")},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout
