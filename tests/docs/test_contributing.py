"""The examples of CONTRIBUTING.md work as they are printed."""

import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys

import jax.numpy as jnp
import pytest

from tests.train import test_objective
from vpo_jax import records, stages
from vpo_jax.train import pair_objective

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILES = {
  match["path"]: match["text"]
  for match in re.finditer(r"```python\n# (?P<path>\S+)\n(?P<text>.*?)```", TEXT, re.S)
}
COMMANDS = {
  match["name"]: match["command"].replace("\\\n", " ")
  for match in re.finditer(
    r"^(?P<command>python -m torch_bridge\.conformance --\w+=(?P<name>\w+)(?:\\\n|.)*)",
    TEXT,
    re.M,
  )
}


@pytest.fixture
def load(tmp_path):
  """Imports a file of the page."""

  def import_file(path):
    place = tmp_path / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(FILES[path])
    spec = importlib.util.spec_from_file_location(f"example_{place.stem}", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

  return import_file


def pair(query, chosen):
  return records.Pair(query, query, chosen, rejected="a cat", source="text")


def test_the_stage_runs_from_its_declared_input(load, tmp_path):
  stage = load("vpo_jax/feedback/short_pairs.py").STAGE
  config = load("configs/short_pairs.py").get_config()
  rows = [pair("a", "a cat on a mat"), pair("b", "word " * 121)]
  records.write(tmp_path / "text_pairs" / "pairs.jsonl", rows)
  assert stages.run(stage, config, tmp_path) == {"read": 2, "kept": 1}
  kept = records.read(tmp_path / "short_pairs" / "pairs.jsonl", records.Pair)
  assert list(kept) == rows[:1]
  config.most_words = 121
  assert stages.run(stage, config, tmp_path) == {"read": 2, "kept": 2}


def test_the_launch_script_is_like_the_others():
  ours = FILES["launch/short_pairs.py"].replace("short_pairs", "merge_pairs")
  theirs = (ROOT / "launch" / "merge_pairs.py").read_text()
  assert ours.split('"""')[-1] == theirs.split('"""')[-1]


@pytest.mark.parametrize("name", ["noise_renderer", "contrast_scorer"])
def test_the_renderer_and_the_scorer_conform(name, tmp_path):
  (tmp_path / f"{name}.py").write_text(FILES[f"{name}.py"])
  command = [sys.executable, *shlex.split(COMMANDS[name])[1:]]
  path = os.pathsep.join((str(tmp_path), str(ROOT)))
  done = subprocess.run(
    command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert "BROKEN" not in done.stdout


def test_the_loss_starts_at_one(load):
  loss = pair_objective.dpo(0.1, load("exponential.py").exponential)
  logp_GN2 = jnp.array([[[-3.0, -5.0], [-2.0, -2.5]]])
  tokens_GN2 = jnp.array([[[4, 6], [3, 3]]])
  total, weight, _ = loss(test_objective.responses(logp_GN2, logp_GN2, tokens_GN2))
  assert float(total / weight) == 1.0
