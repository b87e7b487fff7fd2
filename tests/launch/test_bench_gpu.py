"""launch/bench_gpu.sh goes on after a step that failed, and says so at the end."""

import json
import os
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[2] / "launch" / "bench_gpu.sh"

# Stands in for the interpreter: TRL runs out of memory in DPO, and sampling crashes.
PYTHON = """#!/bin/sh
case "$*" in
  *--stage=sft*) echo '{"examples_per_second": 2.0, "trl": {}, "times_trl": 3.0}' ;;
  *--stage=dpo*)
    echo '{"times_trl": null, "trl": {"float32 x 2": {"error": "out of memory"}}}' ;;
  *--stage=sample*) echo "half a result"; echo "error: a crash" >&2; exit 1 ;;
  *vpo_jax.bench.shapes*) mkdir "$4" && touch "$4/config.json" ;;
  *"-m pytest"*) echo "8 passed" ;;
  *) exec PYTHON "$@" ;;
esac
"""


def run(tmp_path, *arguments):
  python = tmp_path / "python"
  python.write_text(PYTHON.replace("exec PYTHON", f"exec {sys.executable}"))
  python.chmod(0o755)
  models = tmp_path / "models"
  models.mkdir()
  ran = subprocess.run(
    ["bash", SCRIPT, tmp_path / "out", *arguments],
    env=os.environ | {"PYTHON": str(python), "TMPDIR": str(models)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert not any(models.iterdir())  # models are removed, whatever happened
  return ran


def test_every_step_is_reported(tmp_path):
  ran = run(tmp_path, "small")
  assert ran.returncode == 1, ran.stderr
  out = tmp_path / "out"
  lines = (out / "summary.txt").read_text().splitlines()
  found = {line.split()[0]: line.split(" s  ", 1)[1] for line in lines}
  assert found["sft-1b"] == "examples_per_second 2.0, times_trl 3.0"
  error = "times_trl None, TRL float32 x 2: out of memory"
  assert found["lora-dpo-8b"] == f"FAILED: {error}"
  assert found["sample-8b"] == "FAILED: error: a crash; see sample-8b.log"
  assert found["tests"] == "8 passed"
  assert json.loads((out / "lora-sft-8b.json").read_text())["times_trl"] == 3.0
  assert not (out / "sample-1b.json").exists()
  assert "jax " in (out / "machine.txt").read_text()
  for name, words in found.items():
    assert f"{name} " in ran.stdout
    assert words in ran.stdout


def test_steps_can_be_chosen(tmp_path):
  ran = run(tmp_path, "small", "lora-sft-8b", "tests")
  assert ran.returncode == 0, ran.stderr
  summary = (tmp_path / "out" / "summary.txt").read_text()
  assert [line.split()[0] for line in summary.splitlines()] == [
    "model-tiny",
    "lora-sft-8b",
    "tests",
  ]


def test_wrong_arguments_are_one_line(tmp_path):
  ran = run(tmp_path, "tiny")
  assert ran.returncode == 1
  assert ran.stderr.startswith("error: tiny: must be full or small; usage: ")
  (tmp_path / "models").rmdir()
  ran = run(tmp_path, "small", "sft-70b")
  assert ran.returncode == 1
  assert ran.stderr.splitlines()[-1] == "error: no step is called sft-70b"
