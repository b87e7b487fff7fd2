import sys

import pytest

from torch_bridge import contract
from torch_bridge.renderers import base, command

# Stands for a system outside diffusers: writes sample_0 ... sample_N from a file.
PROGRAM = """
import pathlib, sys
import numpy as np
sys.path.insert(0, {package!r})
from torch_bridge import video
prompts, folder, seed = sys.argv[1:]
for i, prompt in enumerate(pathlib.Path(prompts).read_text().splitlines()):
  if prompt == "fail":
    sys.exit("no such luck")
  if prompt == "big":
    sys.exit("CUDA out of memory")
  if prompt == "lost":
    continue
  frames = np.random.default_rng(len(prompt)).integers(0, 255, (9, 32, 32, 3), np.uint8)
  path = pathlib.Path(folder) / ("sample_%d.mp4" % i)
  video.write(path, frames // 2, 8, {{"codec": "libx264", "crf": 17}})
"""


@pytest.fixture
def renderer(tmp_path):
  package = __file__.rsplit("/tests/", 1)[0]
  (tmp_path / "render.py").write_text(PROGRAM.format(package=package))
  settings = {
    "command": [sys.executable, "render.py", "{prompts}", "{folder}", "{seed}"],
    "num_frames": 9,
  }
  made = command.make({"model": str(tmp_path), "settings": settings})
  return made, lambda text: contract.render_request(text, "m", settings, 0)


def test_each_prompt_gets_its_own_video_in_order(renderer):
  made, request = renderer
  prompts = ["x" * length for length in range(1, 13)]
  together = made.render([request(prompt) for prompt in prompts], lambda: None)
  contents = [clip.frames for clip in together]
  assert len(set(contents)) == 12
  for index in (1, 10):  # sample_10 comes after sample_2, not after sample_1
    (alone,) = made.render([request(prompts[index])], lambda: None)
    assert alone.frames == contents[index]


def test_a_prompt_of_many_lines_is_one_line(renderer):
  made, request = renderer
  assert len(made.render([request("a\n\nb"), request("c")], lambda: None)) == 2


@pytest.mark.parametrize(
  ("prompt", "error", "reason"),
  [
    ("fail", RuntimeError, "ended with 1: no such luck"),
    ("big", base.OutOfMemory, "out of memory"),
    ("lost", RuntimeError, "made 1 videos of 2"),
  ],
)
def test_what_goes_wrong_is_said(renderer, prompt, error, reason):
  made, request = renderer
  with pytest.raises(error, match=reason):
    made.render([request("fine"), request(prompt)], lambda: None)


def test_what_fills_a_hole_is_data():
  filled = command.filled(["{folder}/x", "{other}"], {"folder": "{seed}", "seed": 1})
  assert filled == ["{seed}/x", "{other}"]


def test_open_soras_preset_is_a_whole_command():
  preset = contract.preset("open-sora-1.2")
  values = preset | {"prompts": "P", "folder": "F", "seed": 1}
  line = " ".join(command.filled(preset["command"], values))
  assert line.startswith("python scripts/inference.py configs/opensora-v1-2/")
  assert "{" not in line
  with pytest.raises(base.ModelError, match="name the folder"):
    command.make({"model": "/no/checkout", "settings": preset})
