"""The preflight goes on after a failure, and multiplies what it measured."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from etils import epath

from vpo_jax import errors, json_input
from vpo_jax.preflight import forecast, preflight


def small(config):
  """Without the evaluation, which takes half of the time."""
  del config.evaluate
  config.train_sft.micro_tokens = config.train_dpo.micro_tokens = 512
  return config


@pytest.mark.slow
def test_it_goes_on_where_a_later_stage_does_not_need_the_failed_one(
  config, folder, tmp_path
):
  remote = folder / "visionreward" / "tiny.py"
  remote.write_text(remote.read_text().replace("light = ", "light = self.missing + "))
  assert not preflight.run(small(config), tmp_path / "work", 2)
  found = json_input.value(tmp_path / "work" / "preflight.json")
  kinds = {row["stage"]: row["kind"] for row in found["stages"]}
  assert kinds == {
    **dict.fromkeys(("curate", "build_sft", "train_sft", "sample", "text_pairs"), "ok"),
    "score_videos": "FAILED",
    **dict.fromkeys(("video_pairs", "merge_pairs", "train_dpo", "export"), "not run"),
  }
  reasons = {row["stage"]: row["result"] for row in found["stages"]}
  assert "missing" in reasons["score_videos"]
  assert reasons["video_pairs"] == "not run: it needs score_videos"
  for row in found["stages"][:6]:
    assert row["seconds"] > 0
    assert row["host_gb"] > 0.05
  assert not found["ready"]
  # An earlier preflight is replaced; anything else is kept.
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "precious.txt").write_text("x")
  with pytest.raises(
    errors.UserError, match="holds files that are not from a preflight"
  ):
    preflight.run(config, tmp_path / "other", 2)
  assert (tmp_path / "other" / "precious.txt").exists()


def measured(config, tmp_path):
  """Numbers as stages write them, small enough to multiply by hand."""
  for name in ("train_sft", "train_dpo"):
    rates = (1.0, 8.0, 8.0, 8.0)  # the first step compiles
    rows = [json.dumps({"step": 1, "examples_per_second": rate}) for rate in rates]
    (tmp_path / name).mkdir()
    (tmp_path / name / "metrics.jsonl").write_text("\n".join(rows))
  counts = {
    "curate": {},
    "build_sft": {"examples": 4, "set_aside": 1, "cost_usd": 0.5, "calls": 15},
    "train_sft": {},
    "sample": {
      "queries": 5,
      "candidates": 20,
      "new_tokens": 2000,
      "new_tokens_per_second": 100.0,
    },
    "text_pairs": {"candidates": 20, "cost_usd": 0.2, "calls": 25},
    "score_videos": {
      "candidates": 20,
      "passed_text_check": 10,
      "rendered": 10,
      "scored": 10,
      "render_seconds": 900.0,
      "score_seconds": 100.0,
    },
    "merge_pairs": {"train": 9, "heldout": 1},
    "train_dpo": {},
  }
  return {
    name: forecast.Measured(config[name], found, 60.0, epath.Path(tmp_path / name))
    for name, found in counts.items()
  }


def test_a_forecast_is_the_measured_work_times_the_full_sizes(config, tmp_path):
  small(config)
  config.curate.sizes.update(
    sft_general=900, sft_safety=100, dpo_general=450, dpo_safety=50
  )
  config.teacher.parallel = 20
  config.sample.slots = 32
  config.train_sft.epochs = 5
  found = forecast.forecast(
    config, measured(config, tmp_path), {"score_videos": 8}, epath.Path(tmp_path)
  )
  # 5 queries wait 60 s together, so a query takes 60 s, and 20 run at a time.
  assert found["build_sft"].hours == pytest.approx(1000 * 60 / 20 / 3600)
  assert found["build_sft"].dollars == pytest.approx(0.5 * 1000 / 5)
  # 800 examples, 5 times, 8 a second; and a minute to start.
  assert found["train_sft"].hours == pytest.approx((60 + 800 * 5 / 8) / 3600)
  # 2,000 candidates in 62.5 rounds of 32, each as long as the measured one of 20 s.
  assert found["sample"].hours == pytest.approx((40 + 20 * 2000 / 32) / 3600)
  # Half of 2,000 candidates pass; 100 s each, on 8 workers.
  assert found["score_videos"].gpu_hours == pytest.approx(1000 * 100 / 3600)
  assert found["score_videos"].hours == pytest.approx(1000 * 100 / 3600 / 8)
  # Two pairs a query.
  assert found["train_dpo"].hours == pytest.approx((60 + 1000 / 8) / 3600)
  # The variant also renders the other half, and trains once more.
  variant = found["+ without_text"]
  assert variant.gpu_hours == pytest.approx(found["score_videos"].gpu_hours)
  assert variant.hours > found["score_videos"].hours + found["train_dpo"].hours - 1e-9
  whole = forecast.total(found)
  assert whole.dollars == pytest.approx(
    sum(dataclasses.asdict(one)["dollars"] for one in found.values())
  )


def test_the_number_of_queries_is_positive(config, tmp_path):
  with pytest.raises(errors.UserError, match="--queries=0"):
    preflight.run(config, tmp_path, 0)


# In a process of its own: pytest's may have children of other tests.
MEASURED = """
import subprocess, sys
from vpo_jax.preflight import usage

program = "x = bytearray(1_000_000_000); import time; time.sleep(2)"
with usage.measured() as memory:
  subprocess.run([sys.executable, "-c", program], check=True)
print(memory.host, memory.device)
"""


def test_memory_is_that_of_the_children_and_of_the_fullest_gpu(tmp_path, monkeypatch):
  smi = tmp_path / "nvidia-smi"
  smi.write_text("#!/bin/sh\necho 100\necho 3000\n")
  smi.chmod(0o755)
  monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
  ran = subprocess.run(
    [sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True
  )
  host, device = map(int, ran.stdout.split())
  assert 1.0e9 < host < 1.1e9
  assert device == 3000 << 20
