"""The rehearsal's config with a policy that needs no tokenizer of another package."""

import os
import shutil

import pytest

from configs import rehearsal
from tests.rehearsal import inputs


@pytest.fixture(scope="session")
def made(tiny_model, tmp_path_factory):
  """The rehearsal's inputs."""
  folder = tmp_path_factory.mktemp("inputs")
  shutil.copytree(tiny_model, folder / "policy")
  inputs.cogvideox(folder / "tiny-cogvideox-2b", large=False)
  inputs.cogvideox(folder / "tiny-cogvideox-5b", large=True)
  inputs.visionreward(folder / "visionreward")
  inputs.suites(folder)
  inputs.vidprom(folder / "vidprom.csv")
  return folder


@pytest.fixture
def folder(made, tmp_path):
  """A copy of the inputs that a test may break."""
  shutil.copytree(made, tmp_path / "inputs")
  return tmp_path / "inputs"


@pytest.fixture
def config(folder, monkeypatch):
  monkeypatch.setattr(rehearsal, "INPUTS", folder)
  for name in [name for name in os.environ if name.endswith("_PROXY")]:
    monkeypatch.delenv(name)
  return rehearsal.get_config()
