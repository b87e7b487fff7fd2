"""A stand-in for VBench, and videos of a few of its prompts."""

import ml_collections
import pytest

from configs import vbench as vbench_config
from tests.evaluate.vbench import wheel
from vpo_jax.evaluate.vbench import layout, prompts

STAND_IN = wheel.HERE / "stand_in"
CHOSEN = prompts.read(wheel.INFO, limit=2)  # of each of the paper's dimensions


@pytest.fixture
def config(tmp_path, monkeypatch):
  """The config, with the stand-in as VBench's interpreter."""
  (tmp_path / "torch").mkdir()
  (tmp_path / "torch" / "torch.py").write_text("device = str\n")
  config = ml_collections.ConfigDict()
  vbench_config.add(config)
  config = config.vbench
  config.python = wheel.interpreter(tmp_path / "python", STAND_IN, tmp_path / "torch")
  config.info = str(wheel.INFO)
  config.gpus = 0
  monkeypatch.setenv("STAND_IN_RUNS", str(tmp_path / "runs"))
  monkeypatch.setenv("STAND_IN_PIDS", str(tmp_path / "pids"))
  return config


@pytest.fixture
def videos(tmp_path):
  return lay_out(tmp_path, "videos", CHOSEN)


def lay_out(tmp_path, name, chosen, per_prompt=5):
  """Links files with different contents under VBench's names."""
  paths = {}
  for number, video in enumerate(layout.expected(chosen, per_prompt)):
    paths[video] = tmp_path / f"{name}-{number}"
    paths[video].write_text(f"{name} {video}")
  return layout.lay_out(paths, tmp_path / name)


def of(dimension):
  """The prompts of a dimension."""
  return [prompt for prompt in CHOSEN if dimension in prompt.dimensions]
