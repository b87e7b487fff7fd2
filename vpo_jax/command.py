"""The command `vpo`, for an installation without a checkout.

`vpo optimize --model=...` is `python launch/optimize.py --model=...`.
"""

import ast
import os
import pathlib
import runpy
import sys

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"


def main() -> None:
  names = sorted(path.stem for path in LAUNCH.glob("*.py"))
  name = sys.argv[1] if len(sys.argv) > 1 else ""
  if name in names:
    path = str(LAUNCH / f"{name}.py")
    sys.argv[:2] = [path]
    runpy.run_path(path, run_name="__main__")
    return
  asked = name in ("", "-h", "--help", "help")
  if not asked:
    print(f"error: vpo has no command {name!r}; `vpo` lists them", file=sys.stderr)
    sys.exit(2)
  width = max(map(len, names))
  lines = ["vpo NAME [flags]; `vpo NAME --help` explains the flags", ""]
  lines += [f"  {one:{width}}  {_summary(LAUNCH / f'{one}.py')}" for one in names]
  try:
    print("\n".join(lines), flush=True)
  except BrokenPipeError:  # of `vpo | head`
    os._exit(0)


def _summary(path: pathlib.Path) -> str:
  """The first line of a script's docstring."""
  text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
  return text.partition("\n")[0]
