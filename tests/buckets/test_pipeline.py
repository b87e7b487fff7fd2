"""The whole loop with an s3:// workdir, killed and continued on other machines (slow).

The config is configs/rehearsal.py with fewer queries: it runs every stage of the paper
with tiny random models.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from tests import waiting
from vpo_jax import buckets

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """
from configs import rehearsal


def get_config():
  config = rehearsal.get_config()
  config.variants = ()
  config.curate.sizes.update(
    sft_general=14,
    sft_safety=2,
    dpo_general=6,
    dpo_safety=2,
    test_general=3,
    test_safety=1,
  )
  del config.evaluate.video_models.second
  config.evaluate.systems = ("original=query", "sft=train_sft/model", "vpo=vpo")
  for stage in (config.train_sft, config.train_dpo):
    stage.update(batch_size=4, checkpoint_every=1, eval_every=2)
  config.bridge.workers = 1
  return config
"""
# The run is killed once these are in the bucket: while the teacher writes, in training,
# while videos are rendered, and in training again.
MOMENTS = (
  "build_sft/journal.sqlite",
  "train_sft/checkpoints/2.complete",
  "store/videos/",
  "train_dpo/checkpoints/1.complete",
)


def start(workdir, folder):
  with (folder / "log.txt").open("a") as log:
    return subprocess.Popen(
      [
        sys.executable,
        ROOT / "launch" / "pipeline.py",
        "--config=small.py",
        f"--workdir={workdir}",
      ],
      cwd=folder,
      env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},  # one device
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )


def kill_once(run, workdir, moment, log):
  """SIGKILL to all processes once an object's name begins so."""
  waiting.until(
    lambda: any(name.startswith(moment) for name in buckets.names(workdir)),
    lambda: run.poll() is None,
    log.read_text,
    pause=0.3,
  )
  os.killpg(run.pid, signal.SIGKILL)
  run.wait()


def rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def outcome(workdir):
  """What was made, without what depends on the clock."""
  losses = {
    stage: [
      (row["step"], row.get("loss"), row.get("eval/loss"))
      for row in rows(workdir / stage / "metrics.jsonl")
    ]
    for stage in ("train_sft", "train_dpo")
  }
  tables = json.loads((workdir / "evaluate" / "results.json").read_text())
  for name in ("seconds", "took"):
    tables.pop(name, None)
  return {
    "sft": (workdir / "build_sft" / "train.json").read_text(),
    "candidates": (workdir / "sample" / "candidates.jsonl").read_text(),
    "pairs": (workdir / "merge_pairs" / "pairs.jsonl").read_text(),
    "losses": losses,
    "tables": tables,
    "weights": (workdir / "vpo" / "model.safetensors").read_bytes(),
  }


@pytest.mark.slow
def test_killed_and_continued_on_other_machines_it_ends_as_a_local_run(
  bucket, tmp_path
):
  inputs = [sys.executable, "-m", "tests.rehearsal.inputs"]
  made = tmp_path / "runs" / "rehearsal-inputs"
  subprocess.run([*inputs, f"--out={made}"], cwd=ROOT, check=True)
  (tmp_path / "small.py").write_text(CONFIG)
  log = tmp_path / "log.txt"
  local = tmp_path / "local"
  assert start(local, tmp_path).wait() == 0, log.read_text()

  workdir = bucket / "run"
  for moment in MOMENTS:
    kill_once(start(workdir, tmp_path), workdir, moment, log)
    shutil.rmtree(buckets.scratch(bucket), ignore_errors=True)
  assert start(workdir, tmp_path).wait() == 0, log.read_text()

  ours, theirs = outcome(workdir), outcome(local)
  for name, value in theirs.items():
    assert ours[name] == value, name
  for name in ("report.json", "evaluate/README.md", "evaluate/sheet.png"):
    assert (workdir / name).exists(), name
  finished = buckets.names(workdir)
  assert not [name for name in finished if name.endswith(".lock") or ".aside-" in name]
