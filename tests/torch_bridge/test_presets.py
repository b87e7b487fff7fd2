"""Every preset is a complete call of a pipeline of diffusers."""

import inspect
import json
import pathlib

import diffusers
import ml_collections
import pytest

from configs import bridge as bridge_config
from torch_bridge import contract
from vpo_jax.feedback import identity

PRESETS = json.loads(
  pathlib.Path(contract.__file__).with_name("presets.json").read_text()
)


def _settings(name):
  config = ml_collections.ConfigDict()
  bridge_config.add(config)
  config.renderer.preset = name
  config.renderer.model = "a-model"
  return identity.settings(config.renderer)[0]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_every_required_setting(name):
  settings = _settings(name)
  assert settings["encoding"]["codec"] == "libx264"
  assert PRESETS[name]["source"]
  if settings["renderer"] == "command":
    assert any("{seeds}" in part for part in settings["command"])
  if settings["renderer"] == "diffusers":
    assert settings["call"]["max_sequence_length"] == settings["text_tokens"]
  for kind in ("pipeline", "scheduler"):
    assert settings.get(kind) is None or settings[kind] in dir(diffusers)


@pytest.mark.slow  # imports every pipeline
@pytest.mark.parametrize("name", [n for n in PRESETS if "pipeline" in _settings(n)])
def test_the_pipeline_accepts_the_call(name):
  settings = _settings(name)
  accepted = inspect.signature(getattr(diffusers, settings["pipeline"]).__call__)
  call = ["prompt", "height", "width", "num_frames", "num_inference_steps"]
  call += ["guidance_scale", "generator", "output_type", "callback_on_step_end"]
  assert set(call) | settings.get("call", {}).keys() <= accepted.parameters.keys()


@pytest.mark.parametrize("name", ["preset", "second_preset"])
def test_the_miniatures_preset_agrees_with_its_model(name):
  folder = pathlib.Path(contract.__file__).parent / "miniature"
  preset = contract.preset(str(folder / f"{name}.json"))
  config = pathlib.Path(preset["model"]) / "transformer" / "config.json"
  model = json.loads(config.read_text())
  assert preset["text_tokens"] == model["max_text_seq_length"]
  assert preset["call"]["max_sequence_length"] == model["max_text_seq_length"]
