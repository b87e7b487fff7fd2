r"""Plans an SFT step of every known model on machines, for docs/tables.py.

    python docs/results/sizes.py --topology=h800:8 --topology=v6e:2x4
    python docs/tables.py

Writes sizes.json, and adds to it: a model that is planned already is left out. A GPU
takes about half a minute a model, a TPU (extra `tpu`) minutes.
"""

import argparse
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile

from vpo_jax.decoder import known

FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parents[1]
OUT = FOLDER / "sizes.json"
# Of the plan's report: what the table shows.
KEPT = ("memory", "capacity", "fits", "step_seconds", "examples_per_second", "mfu")


def plan(name: str, topology: str, remat: str) -> dict[str, object]:
  """The plan of the paper's SFT step, batch 64."""
  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder, "plan.json")
    command = [
      *(sys.executable, "launch/plan.py", "--config=configs/sft.py"),
      *(f"--model_config={name}", f"--topology={topology}", f"--out={out}"),
      f"--config.remat={remat}",
    ]
    done = subprocess.run(
      command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
      sys.exit(f"sizes.py: {name} on {topology}: {done.stderr.strip()[-500:]}")
    report = json.loads(out.read_text())
  kept = {key: report.get(key) for key in KEPT}
  return {"remat": remat, **kept, "fits_with": report.get("fits_with")}


def main() -> None:
  parser = argparse.ArgumentParser(description="Plans every known model.")
  parser.add_argument("--topology", action="append", required=True)
  arguments = parser.parse_args()
  found = json.loads(OUT.read_text()) if OUT.exists() else {"sizes": {}}
  command = ["git", "-C", str(FOLDER), "rev-parse", "--short", "HEAD"]
  commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout
  today = datetime.datetime.now(datetime.UTC).date()
  found["run"] = {"name": "sizes", "commit": commit.strip(), "date": str(today)}
  for topology in arguments.topology:
    # TPUs gain nothing from keeping what the backward pass needs (docs/scaling.md).
    remat = "full" if topology.startswith("v") else "none"
    for name in known.MODELS:
      row = found["sizes"].setdefault(name, {})
      if topology not in row:
        row[topology] = plan(name, topology, remat)
        OUT.write_text(json.dumps(found, indent=1) + "\n")
        print(name, topology, row[topology])


if __name__ == "__main__":
  main()
