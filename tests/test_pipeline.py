"""The whole loop as a user runs it, killed again and again (slow)."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from configs import quickstart
from vpo_jax import errors, pipeline

ROOT = pathlib.Path(__file__).parents[1]
SIZES = {
  "curate.sizes.sft_general": 16,
  "curate.sizes.sft_safety": 4,
  "curate.sizes.dpo_general": 8,
  "curate.sizes.dpo_safety": 2,
  "curate.sizes.test_general": 3,
  "curate.sizes.test_safety": 1,
  "sample.max_new_tokens": 48,
  "train_sft.checkpoint_every": 2,
  "train_dpo.checkpoint_every": 2,
}


def start(workdir):
  changes = [f"--config.{key}={value}" for key, value in SIZES.items()]
  with (workdir.parent / f"{workdir.name}.log").open("a") as log:
    return subprocess.Popen(
      [
        sys.executable,
        "launch/pipeline.py",
        "--config=configs/quickstart.py",
        f"--workdir={workdir}",
        *changes,
      ],
      cwd=ROOT,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )


def outcome(workdir):
  """What was made, without what depends on the clock."""
  pairs = (workdir / "merge_pairs" / "pairs.jsonl").read_text()
  rows = (workdir / "train_dpo" / "metrics.jsonl").read_text().splitlines()
  losses = [(row["step"], row.get("loss")) for row in map(json.loads, rows)]
  return pairs, losses, (workdir / "vpo" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_killed_at_any_moment_the_loop_ends_the_same(tmp_path):
  unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
  began = time.monotonic()
  assert start(unbroken).wait() == 0, (tmp_path / "unbroken.log").read_text()
  whole = time.monotonic() - began

  moments = random.Random(0)
  for _ in range(8):
    run = start(killed)
    try:
      run.wait(timeout=moments.uniform(5, whole / 2))
    except subprocess.TimeoutExpired:
      os.killpg(run.pid, signal.SIGKILL)
      run.wait()
  assert start(killed).wait() == 0, (tmp_path / "killed.log").read_text()
  assert outcome(killed) == outcome(unbroken)


def test_a_model_that_cannot_be_trained_is_refused_before_any_stage(tmp_path):
  """Before the queries are curated and the teacher is paid."""
  config = quickstart.get_config()
  config.train_sft.model = str(tmp_path / "model")
  (tmp_path / "model").mkdir()
  quantized = {"model_type": "llama", "quantization_config": {"bits": 4}}
  (tmp_path / "model" / "config.json").write_text(json.dumps(quantized))
  with pytest.raises(errors.UserError, match="the model is quantized"):
    pipeline.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()
