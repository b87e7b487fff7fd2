import collections
import pathlib

import pytest

from configs import video_pairs

_SCRIPTED = pathlib.Path(__file__).parents[1] / "torch_bridge"


@pytest.fixture
def scripted(tmp_path, monkeypatch):
  """A config whose renderer does what its prompts say, and what it was asked for."""
  calls = tmp_path / "calls.txt"
  calls.touch()
  monkeypatch.setenv("PYTHONPATH", str(_SCRIPTED))
  monkeypatch.setenv("SCRIPTED_CALLS", str(calls))
  config = video_pairs.get_config()
  config.renderer.name = "scripted"
  config.renderer.model = "scripted-model"
  config.bridge.workers = 2
  config.bridge.hang_s = 30.0

  def count():
    return collections.Counter(calls.read_text().splitlines())

  return config, count
