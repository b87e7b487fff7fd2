"""Runs of the training stages, and what they leave behind."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests import waiting
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import weights
from vpo_jax.train import checkpoint, dpo, sft

STAGES = {"sft": sft, "dpo": dpo}
MIXED = {"data": 2, "fsdp": 2, "tensor": 2}


def metrics(workdir, kind, name="loss"):
  rows = (workdir / f"train_{kind}" / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(row) for row in rows]
  return {row["step"]: row[name] for row in rows if name in row}


def trained(workdir, kind):
  folder = workdir / f"train_{kind}" / "model"
  return weights.load(folder, decoder_config.read(folder))


def state(workdir, kind):
  """Everything that the last checkpoint holds: weights, optimizer, step."""
  with checkpoint.open_in(workdir / f"train_{kind}", keep=2) as checkpoints:
    last = checkpoints.latest()
  saved = workdir / f"train_{kind}" / "checkpoints" / str(last) / "default"
  return jax.tree.map(np.asarray, ocp.StandardCheckpointer().restore(saved))


def largest_gap(a, b):
  return max(
    float(np.abs(x - y).max())
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def start(folder, kind, config, before="", workdir=None):
  """Runs the stage in a process of its own, after the lines `before`.

  Args:
    folder: for the script, and the default for `workdir`.
  """
  script = folder / "train.py"
  script.write_text(
    "import json, sys, ml_collections\n"
    "from vpo_jax import stages\n"
    f"from vpo_jax.train import {kind}\n{before}\n"
    "config = ml_collections.ConfigDict(json.loads(sys.argv[1]))\n"
    f"stages.run({kind}.STAGE, config, sys.argv[2])\n"
  )
  return subprocess.Popen(
    [sys.executable, script, config.to_json(), str(workdir or folder)],
    cwd=pathlib.Path(__file__).parents[2],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )


def kill_after_checkpoint(process, workdir, kind, step):
  """SIGKILL as soon as the step's checkpoint is complete."""
  kill_once(process, (workdir / f"train_{kind}" / "checkpoints" / str(step)).exists)
  assert not (workdir / f"train_{kind}" / "model").exists()


def kill_once(process, ready):
  """SIGKILL as soon as `ready()` is true."""
  waiting.until(ready, lambda: process.poll() is None)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()


def assert_ends_as(ours, theirs, kind):
  """To the bit, with no step's row missing or doubled."""
  lines = (ours / f"train_{kind}" / "metrics.jsonl").read_text().splitlines()
  losses = [row["step"] for row in map(json.loads, lines) if "loss" in row]
  assert losses == list(range(1, 7))
  for name in ("loss", "eval/loss"):
    assert metrics(ours, kind, name) == metrics(theirs, kind, name)
  assert largest_gap(trained(ours, kind), trained(theirs, kind)) == 0
  ends = [state(workdir, kind) for workdir in (ours, theirs)]
  assert set(ends[0]) == {"step", "params", "opt_state"}
  assert largest_gap(*ends) == 0
