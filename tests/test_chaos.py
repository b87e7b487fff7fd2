"""The rehearsal while everything fails; its tables are those of a calm run (slow).

CHAOS_SEED=1 CHAOS_EVENTS=50 pytest -m slow -s tests/test_chaos.py
"""

import json
import os
import subprocess
import sys
import time

import pytest

from tests import chaos

EVENTS = int(os.environ.get("CHAOS_EVENTS", "50"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
# What was made, without what depends on the clock or on the number of attempts.
FILES = (
  "curate/sft.jsonl",
  "build_sft/train.json",
  "sample/candidates.jsonl",
  "text_pairs/judged.jsonl",
  "score_videos/scores.jsonl",
  "merge_pairs/train.json",
  "train_sft/model/model.safetensors",
  "train_dpo/model/model.safetensors",
)


@pytest.fixture
def disk(tmp_path):
  """A folder on a disk of its own, if that can be had; and whether it is one."""
  folder = tmp_path / "disk"
  folder.mkdir()
  mounted = (
    subprocess.run(
      ["mount", "-t", "tmpfs", "-o", "size=3g", "tmpfs", str(folder)],
      capture_output=True,
      check=False,
    ).returncode
    == 0
  )
  yield folder, mounted
  if mounted:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def outcome(workdir):
  """The tables, the losses, and the content of `FILES`."""
  results = json.loads((workdir / "evaluate" / "results.json").read_text())
  losses = {}
  for stage in ("train_sft", "train_dpo"):
    rows = (workdir / stage / "metrics.jsonl").read_text().split("\n")
    losses[stage] = [
      (row["step"], row.get("loss"), row.get("eval/loss"))
      for row in map(json.loads, filter(None, rows))
    ]
  return results, losses, {name: (workdir / name).read_bytes() for name in FILES}


@pytest.mark.slow
def test_every_table_is_that_of_an_unbroken_run(tmp_path, disk):
  environment = os.environ | {
    "PYTHONPATH": str(chaos.ROOT),
    "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
  }
  inputs = [sys.executable, "-m", "tests.rehearsal.inputs"]
  folder, full_disk = disk
  for place in (tmp_path, folder):
    out = f"--out={place / 'runs' / 'rehearsal-inputs'}"
    subprocess.run([*inputs, out], cwd=place, env=environment, check=True)
  teacher = chaos.Teacher(environment)
  proxy = chaos.Proxy(teacher.port)
  command = [
    sys.executable,
    str(chaos.ROOT / "launch" / "pipeline.py"),
    f"--config={chaos.ROOT / 'configs' / 'rehearsal.py'}",
    "--config.teacher.server=",
    f"--config.teacher.base_url=http://127.0.0.1:{proxy.port}/v1",
  ]
  try:
    began = time.monotonic()
    calm = [*command, f"--workdir={tmp_path / 'calm'}"]
    with (tmp_path / "calm.log").open("wb") as log:
      ran = subprocess.run(
        calm, cwd=tmp_path, env=environment, stdout=log, stderr=log, check=False
      )
    assert ran.returncode == 0, (tmp_path / "calm.log").read_text()[-3000:]
    seconds = time.monotonic() - began
    began = time.monotonic()
    broken = chaos.Chaos(
      [*command, f"--workdir={folder / 'broken'}"],
      folder / "broken",
      tmp_path / "broken.log",
      environment,
      teacher,
      proxy,
      SEED,
      full_disk,
    )
    # An event costs time, so that all of them happen before the pipeline ends.
    broken.run(EVENTS, pace=0.8 * seconds / EVENTS)
  finally:
    teacher.kill()
    proxy.close()
  print(
    f"\nseed {SEED}: {broken.events.total()} events, {broken.restarts} restarts,"
    f" {time.monotonic() - began:.0f} s for {seconds:.0f} s:"
  )
  for name, count in sorted(broken.events.items()):
    print(f"  {count} x {name}")
  assert broken.events.total() == EVENTS
  results, losses, contents = outcome(folder / "broken")
  expected, expected_losses, expected_contents = outcome(tmp_path / "calm")
  assert losses == expected_losses
  for name in FILES:
    assert contents[name] == expected_contents[name], name
  assert results == expected
