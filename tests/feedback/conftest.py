import collections
import pathlib

import pytest

from configs import score_videos

_MODULES = pathlib.Path(__file__).parents[1] / "torch_bridge"


@pytest.fixture
def scripted(tmp_path, monkeypatch):
  """A config for the tests' renderer and scorer, and a function that counts its calls.

  The renderer fails in the way that the prompt's first word says (scripted.py). The
  function returns how often each prompt was rendered.
  """
  calls = tmp_path / "calls.txt"
  calls.touch()
  monkeypatch.setenv("PYTHONPATH", str(_MODULES))
  monkeypatch.setenv("SCRIPTED_CALLS", str(calls))
  config = score_videos.get_config()
  config.renderer.name = "scripted"
  config.renderer.model = "scripted-model"
  config.renderer.settings.update(num_frames=9, fps=8)
  config.scorer.name = "contrast"
  config.scorer.questions = str(_MODULES / "contrast.json")
  config.bridge.workers = 2
  config.bridge.hang_s = 30.0

  def count():
    return collections.Counter(calls.read_text().splitlines())

  return config, count
