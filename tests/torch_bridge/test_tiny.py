import numpy as np
import pytest
import torch

from torch_bridge import contract
from torch_bridge.renderers import base, diffusers, tiny

SETTINGS = contract.preset("tiny")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tiny") / "model"
  tiny.main([f"--out={folder}"])
  return str(folder)


@pytest.fixture(scope="module")
def renderer(directory):
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield diffusers.make({"model": directory, "settings": SETTINGS})
  torch.set_num_threads(before)


def _request(prompt, seed=0):
  return contract.render_request(prompt, "tiny", SETTINGS, seed)


def _frames(renderer, *requests):
  return [clip.frames for clip in renderer.render(requests, lambda: None)]


def test_a_seed_makes_one_pipeline_and_the_directory_keeps_it(renderer):
  """What was saved and loaded renders what the pipeline in memory does."""
  pipe = tiny.build(0)
  pipe.set_progress_bar_config(disable=True)
  request = _request("a dog on the beach")
  names = ("height", "width", "num_frames", "num_inference_steps", "guidance_scale")
  built = pipe(
    prompt=[request.prompt],
    generator=[torch.Generator().manual_seed(base.noise_seed(request))],
    output_type="np",
    **{name: SETTINGS[name] for name in names},
  ).frames[0]
  np.testing.assert_allclose(_frames(renderer, request)[0], built, atol=1e-5)


def test_a_batch_renders_what_each_does_alone(renderer):
  requests = [_request("a cat"), _request("a dog on the beach at night")]
  together = _frames(renderer, *requests)
  for request, frames in zip(requests, together, strict=True):
    assert frames.shape == (9, 48, 48, 3)
    np.testing.assert_allclose(_frames(renderer, request)[0], frames, atol=1e-3)


def test_prompt_and_seed_change_the_video(renderer):
  one, other, reseeded = _frames(
    renderer,
    _request("a cat"),
    _request("golden light on the sea"),
    _request("a cat", 1),
  )
  assert np.abs(one - other).mean() > 0.05
  assert 1e-4 < np.abs(one - reseeded).mean() < np.abs(one - other).mean()


def test_what_the_text_limit_cuts_is_counted(renderer):
  long = "light " * 300
  clips = renderer.render([_request("a cat"), _request(long)], lambda: None)
  # 300 words and the end token, of which 226 are read.
  assert [clip.lost_tokens for clip in clips] == [0, 301 - 226]


def test_it_shows_life_while_it_works(renderer):
  beats = []
  renderer.render([_request("a cat")], lambda: beats.append(1))
  assert len(beats) == SETTINGS["num_inference_steps"]


def test_a_directory_that_is_no_pipeline_is_one_line(tmp_path):
  with pytest.raises(base.ModelError, match="not a pipeline to load") as caught:
    diffusers.make({"model": str(tmp_path), "settings": SETTINGS})
  assert "\n" not in str(caught.value)
