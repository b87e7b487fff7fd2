"""Asserts that a rehearsal fills every table and figure of the paper, by number.

python -m tests.rehearsal.tables --workdir=runs/rehearsal
"""

import argparse
import json
import math
import pathlib

TABLES = ("1", "2", "3", "4", "5", "6")
FIGURES = ("3", "4", "5")
COMBINATIONS = ("standard", "diffusion_dpo", "vpo", "vpo_diffusion_dpo")


def check(results: dict, trained: bool) -> None:
  """Every table has systems with intervals; every figure has pairs or levels.

  Args:
    trained: whether the video model was trained too, so that figure 5 compares it.
  """
  assert results["note"], "stand-ins are marked"
  assert tuple(results["tables"]) == TABLES, tuple(results["tables"])
  assert tuple(results["figures"]) == FIGURES, tuple(results["figures"])
  for number, parts in results["tables"].items():
    for part in parts:
      assert len(part["rows"]) >= 2, f"table {number} compares systems"
      cells = [cell for row in part["rows"] for cell in row["cells"]]
      assert cells, f"table {number} has cells"
      for cell in cells:
        assert _is_interval(cell["mean"], cell["low"], cell["high"]), (number, cell)
  (preferences,) = results["figures"]["3"]
  assert preferences["preferences"]
  for row in preferences["preferences"]:
    net = row["net"]
    assert _is_interval(net["share"], net["low"], net["high"]), row
  by_judge = [part for part in results["figures"]["4"] if "rows" in part]
  (by_people,) = [part for part in results["figures"]["4"] if "levels" in part]
  assert by_judge
  for part in by_judge:
    for cell in (cell for row in part["rows"] for cell in row["cells"]):
      assert _is_interval(cell["mean"], cell["low"], cell["high"]), cell
  assert by_people["judge"]["videos"], "people and judge saw the same videos"
  for part in results["figures"]["5"]:
    assert part["pairs"]
    for row in part["pairs"]:
      assert _is_interval(row["net"], row["net_low"], row["net_high"]), row
  combined = [part for part in results["figures"]["5"] if "combinations" in part]
  assert bool(combined) == trained
  for part in combined:
    names = tuple(one["name"] for one in part["combinations"])
    assert names == COMBINATIONS
  assert all(
    part["model"] in ("main", "second")
    for parts in results["tables"].values()
    for part in parts
  ), "the trained video model has no rows of its own in the tables"


def _is_interval(mean: float, low: float, high: float) -> bool:
  return all(map(math.isfinite, (mean, low, high))) and low <= high


def main() -> None:
  parser = argparse.ArgumentParser(description="Checks a rehearsal's tables.")
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  workdir = parser.parse_args().workdir
  path = workdir / "evaluate" / "results.json"
  trained = (workdir / "train_diffusion_dpo" / "manifest.json").exists()
  check(json.loads(path.read_text()), trained)
  print(
    f"{path}: tables {', '.join(TABLES)} and figures {', '.join(FIGURES)} are there"
  )


if __name__ == "__main__":
  main()
