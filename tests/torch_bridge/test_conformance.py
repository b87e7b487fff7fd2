"""The conformance test accepts valid modules and names the rule that others break."""

import pathlib

import contrast
import pytest

from torch_bridge import conformance

SETTINGS = '--settings={"num_frames": 9, "fps": 8}'

GOOD = """
import numpy as np
from torch_bridge.renderers import base

class Good:
  made_by = {"renderer": "good"}
  def __init__(self, spec):
    pass
  def frames(self, requests, index):
    key = [requests[index].seed, *requests[index].prompt.encode()]
    scene = np.random.default_rng(key).random((8, 8, 3))
    scene = scene.repeat(4, 0).repeat(4, 1)
    return np.stack([np.roll(scene, i, 1) for i in range(9)])
  def render(self, requests, heartbeat):
    return [base.Clip(self.frames(requests, i)) for i in range(len(requests))]

class Leaky(Good):  # a video's noise depends on its batch
  def frames(self, requests, index):
    return super().frames(requests * 2, len(requests) - 1 - index)

class Black(Good):
  def frames(self, requests, index):
    return super().frames(requests, index) * 0

class Deaf(Good):  # ignores the prompt
  def frames(self, requests, index):
    return np.random.default_rng(0).random((9, 32, 32, 3))
"""

SCORERS = """
from torch_bridge import questions
from torch_bridge.scorers import base

class Scalars:
  name, revision = "scalars", "1"
  questions = questions.NONE
  def __init__(self, spec):
    pass
  def score(self, frames, fps, text, heartbeat):
    return base.Verdict([], scalars={"light": float(frames.mean())})

class Blind(Scalars):
  def score(self, frames, fps, text, heartbeat):
    return base.Verdict([0.5, 1.5], scalars={})
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
  """Writes a module with one class, as a user would, and returns its name."""
  package = pathlib.Path(conformance.__file__).parents[1]
  monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{package}")

  def write(source, name):
    (tmp_path / f"mine_{name.lower()}.py").write_text(f"{source}\nmake = {name}\n")
    return f"mine_{name.lower()}"

  return write


def test_a_good_renderer_passes(modules, capsys):
  assert conformance.main([f"--renderer={modules(GOOD, 'Good')}", SETTINGS]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 8
  assert all(line.startswith("ok") for line in lines)


@pytest.mark.parametrize(
  ("name", "line"),
  [
    ("Leaky", "BROKEN a video does not depend on the others of its batch"),
    ("Black", "gives a valid video: black"),
    ("Deaf", "BROKEN another prompt gives another video"),
  ],
)
def test_a_rule_that_a_renderer_breaks_is_named(modules, capsys, name, line):
  assert conformance.main([f"--renderer={modules(GOOD, name)}", SETTINGS]) == 1
  assert line in capsys.readouterr().out


def test_scorers_of_questions_and_of_named_rewards_pass(modules, monkeypatch):
  package = pathlib.Path(conformance.__file__).parents[1]
  here = pathlib.Path(contrast.__file__).parent
  spec = ["--scorer=contrast", f"--questions={contrast.QUESTIONS}"]
  with monkeypatch.context() as context:
    context.setenv("PYTHONPATH", f"{here}:{package}")
    assert conformance.main(spec) == 0
  assert conformance.main([f"--scorer={modules(SCORERS, 'Scalars')}"]) == 0


def test_rules_that_a_scorer_breaks_are_named(modules, capsys):
  assert conformance.main([f"--scorer={modules(SCORERS, 'Blind')}"]) == 1
  out = capsys.readouterr().out
  assert "BROKEN the result depends on the frames" in out
  assert "BROKEN probabilities are between 0 and 1: one is 1.5" in out


def test_a_renderer_needs_settings(capsys):
  with pytest.raises(SystemExit):
    conformance.main(["--renderer=diffusers"])
  assert "needs --preset" in capsys.readouterr().err
