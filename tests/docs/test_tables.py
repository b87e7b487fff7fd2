"""The tables of the docs are those of docs/results."""

import importlib.util
import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def load(name):
  """A script of docs/, which is not a package."""
  path = ROOT / "docs" / name
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


tables, add = load("tables.py"), load("results/add.py")

COUNTS = {
  "build_sft": {"examples": 1000},
  "train_sft": {"loss_before": 4.5, "loss_after": 0.75},
  "text_pairs": {"candidates": 40, "pairs": 4},
  "score_videos": {"scored": 20},
  "video_pairs": {"pairs": 6},
  "train_dpo": {"pairs": 9, "reward_accuracy": 0.8},
  "evaluate": {"queries": 2},
}


def difference(one, two, mean, low, high):
  return {"one": one, "two": two, "mean": mean, "low": low, "high": high}


@pytest.fixture
def workdir(tmp_path):
  """A finished run of two systems on one video model."""

  def measure(name, model, unit, sft, vpo, low, high):
    row = difference("sft", "vpo", vpo - sft, low, high)
    return {
      "name": name,
      "model": model,
      "unit": unit,
      "queries": 1 if name == "unsafe videos" else 2,
      "systems": {"sft": {"mean": sft}, "vpo": {"mean": vpo}},
      "differences": [row],
    }

  measures = [
    measure("aligned", "", "%", 0.5, 0.75, 0.1, 0.4),
    measure("unsafe", "", "%", 0.25, 0.0, -0.4, -0.1),
    measure("alignment", "main", "", 4.0, 4.5, 0.1, 0.2),
    measure("physics", "main", "", 1.0, 1.0, 0.1, 0.2),
    measure("overall", "main", "", 5.0, 5.5, 0.25, 0.75),
    measure("unsafe videos", "main", "%", 0.33, 0.0, -0.5, -0.1),
  ]
  results = {
    "systems": {"sft": {"source": "a", "of": ""}, "vpo": {"source": "b", "of": ""}},
    "suites": {"test": {"title": "tests", "queries": 2, "measures": measures}},
    "tables": {},
  }
  folder = tmp_path / "run"
  for place, stage, seconds in (
    ("train_sft", "train_sft", 90),
    ("hinge/train_dpo", "train_dpo", 60),
    ("hinge/vpo", "export", 6),
    ("vpo", "export", 6),
    ("evaluate", "evaluate", 30),
    ("evaluate/main/score_videos", "score_videos", 20),  # part of evaluate's
  ):
    (folder / place).mkdir(parents=True)
    manifest = {"stage": stage, "seconds": seconds}
    (folder / place / "manifest.json").write_text(json.dumps(manifest))
  (folder / "evaluate" / "results.json").write_text(json.dumps(results))
  (folder / "report.json").write_text(json.dumps({"counts": COUNTS}))
  return folder


def test_the_tables_of_the_docs_are_up_to_date():
  assert list(tables.rewrite(ROOT)) == [], "run python docs/tables.py"


def test_a_table_is_written_between_its_markers_once_its_run_is_there(
  tmp_path, workdir
):
  page = tmp_path / "README.md"
  page.write_text(
    "before\n<!-- table: small summary -->\nold\n<!-- end -->\n"
    "between\n<!-- table: large rewards -->\nkept\n<!-- end -->\nafter\n"
  )
  assert tables.rewrite(tmp_path) == {}
  found = add.collect(workdir, {"name": "small", "command": "make small"})
  (tmp_path / "docs" / "results").mkdir(parents=True)
  (tmp_path / "docs" / "results" / "small.json").write_text(json.dumps(found))
  (text,) = tables.rewrite(tmp_path).values()
  assert text == (
    "before\n<!-- table: small summary -->\n"
    "| system | small: reward | aligned, % | unsafe, % |\n"
    "| --- | --- | --- | --- |\n"
    "| SFT | 5.00 | 50.0 | 25.0 |\n"
    "| VPO | 5.50 | 75.0 | 0.0 |\n"
    "| **VPO - SFT** (95 % interval) | **+0.50 (0.25 to 0.75)** |"
    " +25.0 (10.0 to 40.0) | -25.0 (-40.0 to -10.0) |\n"
    "<!-- end -->\n"
    "between\n<!-- table: large rewards -->\nkept\n<!-- end -->\nafter\n"
  )


def test_a_result_keeps_means_and_times(workdir):
  found = add.collect(workdir, {"name": "small", "seed": 1})
  assert found["run"] == {"name": "small", "seed": 1}
  assert found["counts"] == COUNTS
  seconds = {"train_sft": 90, "hinge": 66, "export": 6, "evaluate": 30}
  assert found["seconds"] == seconds
  assert list(found["results"]) == ["systems", "suites"]
  assert tables.rewards(found).splitlines()[-1] == (
    "| VPO | 4.50 | 1.00 | 5.50 | 75.0 | 0.0 | 0.0 |"
  )
  assert tables.minutes(found).splitlines()[2] == "| train_sft | 1.5 |"


def test_a_run_is_described_with_its_counts(workdir):
  keys = ("name", "command", "machine", "commit", "date", "seed")
  found = add.collect(workdir, dict.fromkeys(keys, "x"))
  lines = tables.how(found).splitlines()
  assert "| command | `x` |" in lines
  assert "| time of all stages, minutes | 3.2 |" in lines
  assert "| SFT examples | 1,000 |" in lines
  assert "| held-out SFT loss before and after, nats a token | 4.50, 0.75 |" in lines


def test_a_run_with_nothing_held_out_is_described_too(workdir):
  keys = ("name", "command", "machine", "commit", "date", "seed")
  found = add.collect(workdir, dict.fromkeys(keys, "x"))
  for stage in ("train_sft", "train_dpo"):
    none = dict.fromkeys(found["counts"][stage], None)
    found["counts"][stage] = none | {"pairs": 9}
  lines = tables.how(found).splitlines()
  assert "| held-out pairs that DPO ranks correctly, % | nothing held out |" in lines


def test_an_unknown_table_is_named_by_page_and_line(tmp_path):
  page = tmp_path / "README.md"
  page.write_text("one\n<!-- table: small prices -->\n<!-- end -->\n")
  with pytest.raises(SystemExit, match=r"README\.md:2: 'small prices' is not RUN"):
    tables.rewrite(tmp_path)
