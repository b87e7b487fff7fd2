r"""Copies what a finished run measured to docs/results, for docs/tables.py.

    python docs/results/add.py miniature runs/miniature-0 --seed=0 \
      --command="make miniature" --machine="2 cores of an AMD EPYC (Zen 4)"
    python docs/tables.py

NAME.json has the systems and suites of evaluate/results.json, the counts of
report.json, the seconds of the stages, and how the run was made. Standard library only.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

FOLDER = pathlib.Path(__file__).parent


def collect(workdir: pathlib.Path, run: Mapping[str, Any]) -> dict[str, Any]:
  """What docs/results keeps of a finished run.

  Args:
    workdir: of `launch/pipeline.py`, with report.json and evaluate/results.json.
    run: name, command, machine, commit, date, seed.
  """
  results = _read(workdir / "evaluate" / "results.json")
  return {
    "run": dict(run),
    "counts": _read(workdir / "report.json")["counts"],
    "seconds": _seconds(workdir),
    "results": {key: results[key] for key in ("systems", "suites")},
  }


def _seconds(workdir: pathlib.Path) -> dict[str, float]:
  """The seconds of each stage's last execution; a variant's stages are added up."""
  manifests = [*workdir.glob("*/manifest.json"), *workdir.glob("*/*/manifest.json")]
  found: dict[str, float] = {}
  for path in sorted(manifests, key=lambda path: path.stat().st_mtime):
    manifest = _read(path)
    variant = path.parent.parent
    name = manifest["stage"] if variant == workdir else variant.name
    found[name] = round(found.get(name, 0.0) + manifest["seconds"], 1)
  return found


def _read(path: pathlib.Path) -> Any:
  if not path.exists():
    sys.exit(f"add.py: {path} does not exist; run the pipeline to its end first")
  return json.loads(path.read_text())


def _rounded(value: Any) -> Any:
  """Floats with five decimals, more than a run of the miniature repeats."""
  if isinstance(value, float):
    return round(value, 5)
  if isinstance(value, dict):
    return {key: _rounded(one) for key, one in value.items()}
  return [_rounded(one) for one in value] if isinstance(value, list) else value


def _text(value: Any, indent: str = "") -> str:
  """JSON in which a list or object without nested ones is a single line."""
  nested = value.values() if isinstance(value, dict) else value
  if not isinstance(value, dict | list) or not any(
    isinstance(one, dict | list) for one in nested
  ):
    return json.dumps(value, ensure_ascii=False)
  more = indent + " "
  if isinstance(value, list):
    lines = [_text(one, more) for one in value]
  else:
    lines = [f"{json.dumps(key)}: {_text(one, more)}" for key, one in value.items()]
  left, right = "[]" if isinstance(value, list) else "{}"
  body = f",\n{more}".join(lines)
  return f"{left}\n{more}{body}\n{indent}{right}"


def _commit() -> str:
  command = ["git", "-C", str(FOLDER), "rev-parse", "--short", "HEAD"]
  return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def _machine() -> str:
  path = pathlib.Path("/proc/cpuinfo")
  found = re.search(r"model name\s*: (.*)", path.read_text() if path.exists() else "")
  return f"{os.cpu_count()} cores of {found[1] if found else 'an unknown CPU'}"


def main() -> None:
  parser = argparse.ArgumentParser(description="Adds a finished run to docs/results.")
  parser.add_argument("name")
  parser.add_argument("workdir", type=pathlib.Path)
  parser.add_argument("--command", required=True, help="what was typed")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--machine", default=_machine())
  parser.add_argument("--commit", default=_commit(), help="of the code that ran")
  parser.add_argument("--date", default=datetime.date.today().isoformat())
  arguments = parser.parse_args()
  keys = ("name", "command", "machine", "commit", "date", "seed")
  found = collect(arguments.workdir, {key: getattr(arguments, key) for key in keys})
  path = FOLDER / f"{arguments.name}.json"
  path.write_text(_text(_rounded(found)) + "\n")
  print(f"wrote {path}")


if __name__ == "__main__":
  main()
