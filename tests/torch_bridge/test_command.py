import sys

import pytest

from torch_bridge import contract, loop, rendering, shards
from torch_bridge.renderers import base, command

# Stands for a system outside diffusers: writes sample_0 ... sample_N from a file.
PROGRAM = """
import pathlib, sys
import numpy as np
sys.path.insert(0, {package!r})
from torch_bridge import video
prompts, folder, seeds = sys.argv[1:]
lines = pathlib.Path(prompts).read_text().splitlines()
seeds = pathlib.Path(seeds).read_text().split() if "/" in seeds else [seeds]
assert len(seeds) == len(lines)
with open("calls.txt", "a") as calls:
  calls.write("%d\\n" % len(lines))
for i, (prompt, seed) in enumerate(zip(lines, seeds)):
  if prompt == "fail":
    sys.exit("no such luck")
  if prompt == "big":
    sys.exit("CUDA out of memory")
  if prompt == "lost":
    continue
  random = np.random.default_rng([int(seed), *prompt.encode()])
  frames = random.integers(0, 255, (9, 32, 32, 3), np.uint8)
  path = pathlib.Path(folder) / ("sample_%d.mp4" % i)
  video.write(path, frames // 2, 8, {{"codec": "libx264", "crf": 17}})
"""


@pytest.fixture
def make(tmp_path):
  """A renderer whose command has the hole, and what makes its requests."""
  package = __file__.rsplit("/tests/", 1)[0]
  (tmp_path / "render.py").write_text(PROGRAM.format(package=package))

  def make(hole):
    settings = {
      "command": [sys.executable, "render.py", "{prompts}", "{folder}", hole],
      "num_frames": 9,
      "encoding": {"codec": "libx264", "crf": 17},
    }
    made = command.make({"model": str(tmp_path), "settings": settings})
    return made, lambda text: contract.render_request(text, "m", settings, 0)

  return make


def test_each_prompt_gets_its_own_video_in_order(make):
  made, request = make("{seeds}")
  prompts = ["x" * length for length in range(1, 13)]
  together = made.render([request(prompt) for prompt in prompts], lambda: None)
  contents = [clip.frames for clip in together]
  assert len(set(contents)) == 12
  for index in (1, 10):  # sample_10 comes after sample_2, not after sample_1
    (alone,) = made.render([request(prompts[index])], lambda: None)
    assert alone.frames == contents[index]


@pytest.mark.parametrize(("hole", "calls"), [("{seed}", "111"), ("{seeds}", "3")])
def test_a_command_with_one_seed_is_run_once_a_video(make, tmp_path, hole, calls):
  made, request = make(hole)
  queue = shards.Queue(tmp_path / "queue")
  rows = [request(text) for text in ("a", "b", "c")]
  queue.refill(rows, 3)
  store = contract.Store(tmp_path / "store")
  beat = shards.Heartbeat(queue, "w")
  work = loop.Loop(queue, rendering.Rendering(store, made), beat, batch=3)
  assert work.run(queue.take("w"))
  assert (tmp_path / "calls.txt").read_text().split() == list(calls)
  found = [store.find_video(row.id) for row in rows]
  assert len({video.sha256 for video in found if video}) == 3


def test_a_prompt_of_many_lines_is_one_line(make):
  made, request = make("{seeds}")
  assert len(made.render([request("a\n\nb"), request("c")], lambda: None)) == 2


@pytest.mark.parametrize(
  ("prompt", "error", "reason"),
  [
    ("fail", RuntimeError, "ended with 1: no such luck"),
    ("big", base.OutOfMemory, "out of memory"),
    ("lost", RuntimeError, "made 1 videos of 2"),
  ],
)
def test_what_goes_wrong_is_said(make, prompt, error, reason):
  made, request = make("{seeds}")
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
