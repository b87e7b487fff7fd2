import sys

import pytest

from torch_bridge import contract, loop, rendering, shards
from torch_bridge.renderers import base, command

# A system outside diffusers: writes sample_0 ... sample_N for the prompts of a file.
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
  """A renderer whose command has a placeholder, and a function for its requests."""
  package = __file__.rsplit("/tests/", 1)[0]
  (tmp_path / "render.py").write_text(PROGRAM.format(package=package))

  def make(placeholder):
    settings = {
      "command": [sys.executable, "render.py", "{prompts}", "{folder}", placeholder],
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
  for index in (1, 10):  # sample_10 follows sample_9, not sample_1
    (alone,) = made.render([request(prompts[index])], lambda: None)
    assert alone.frames == contents[index]


@pytest.mark.parametrize(
  ("placeholder", "calls"), [("{seed}", "111"), ("{seeds}", "3")]
)
def test_a_command_with_one_seed_is_run_once_per_video(
  make, tmp_path, placeholder, calls
):
  made, request = make(placeholder)
  queue = shards.Queue(tmp_path / "queue")
  rows = [request(text) for text in ("a", "b", "c")]
  queue.refill(rows, 3)
  store = contract.Store(tmp_path / "store")
  heartbeat = shards.Heartbeat(queue, "w")
  work = loop.Loop(queue, rendering.Rendering(store, made), heartbeat, batch=3)
  assert work.run(queue.take("w"))
  assert (tmp_path / "calls.txt").read_text().split() == list(calls)
  found = [store.find_video(row.id) for row in rows]
  assert len({video.sha256 for video in found if video}) == 3


def test_a_prompt_with_line_breaks_is_one_line(make):
  made, request = make("{seeds}")
  assert len(made.render([request("a\n\nb"), request("c")], lambda: None)) == 2


@pytest.mark.parametrize(
  ("prompt", "error", "reason"),
  [
    ("fail", RuntimeError, "failed with 1: no such luck"),
    ("big", base.OutOfMemory, "out of memory"),
    ("lost", RuntimeError, "made 1 videos instead of 2"),
  ],
)
def test_the_reason_of_a_failure_is_reported(make, prompt, error, reason):
  made, request = make("{seeds}")
  with pytest.raises(error, match=reason):
    made.render([request("fine"), request(prompt)], lambda: None)


def test_a_value_is_not_searched_for_placeholders():
  filled = command.fill(["{folder}/x", "{other}"], {"folder": "{seed}", "seed": 1})
  assert filled == ["{seed}/x", "{other}"]


def test_the_open_sora_preset_is_a_complete_command():
  preset = contract.preset("open-sora-1.2")
  values = preset | {"prompts": "P", "folder": "F", "seed": 1}
  line = " ".join(command.fill(preset["command"], values))
  assert line.startswith("python scripts/inference.py configs/opensora-v1-2/")
  assert "{" not in line
  with pytest.raises(base.ModelError, match="no such folder"):
    command.make({"model": "/no/checkout", "settings": preset})
