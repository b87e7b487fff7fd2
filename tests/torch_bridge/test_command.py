import sys
import time

import open_sora as open_sora_checkout
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
  assert len(list(made.render([request("a\n\nb"), request("c")], lambda: None))) == 2


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
    list(made.render([request("fine"), request(prompt)], lambda: None))


def test_a_value_is_not_searched_for_placeholders():
  filled = command.fill(["{folder}/x", "{other}"], {"folder": "{seed}", "seed": 1})
  assert filled == ["{seed}/x", "{other}"]


@pytest.fixture
def open_sora(tmp_path, monkeypatch):
  """Runs prompts through a worker's loop with the preset and an imitated checkout."""
  checkout = tmp_path / "checkout"
  checkout.mkdir()
  open_sora_checkout.write(checkout)
  monkeypatch.setenv("PYTHONPATH", str(checkout))
  settings = contract.preset("open-sora-1.2") | {
    "python": sys.executable,
    "num_frames": 8,
    "width": 64,
    "height": 64,
    "encoding": {"codec": "libx264", "crf": 17},
  }
  made = command.make({"model": str(checkout), "settings": settings})

  def run(name, *prompts_and_seeds):
    queue = shards.Queue(tmp_path / name)
    rows = [
      contract.render_request(prompt, "m", settings, seed)
      for prompt, seed in prompts_and_seeds
    ]
    queue.refill(rows, len(rows))
    store = contract.Store(tmp_path / name / "store")
    heartbeat = shards.Heartbeat(queue, "w")
    work = loop.Loop(queue, rendering.Rendering(store, made), heartbeat, batch=1)
    while shard := queue.take("w"):
      if work.run(shard):
        queue.finish(shard)
      else:
        queue.release("w")  # a fresh process would try it again
    found = [store.find_video(row.id) for row in rows]
    reasons = [getattr(queue.failure(row.id), "reason", "") for row in rows]
    loads = checkout / "loads.txt"
    count = len(loads.read_text().split())
    loads.unlink()
    return found, reasons, count

  run.renderer, run.settings = made, settings
  return run, checkout


def test_open_sora_loads_its_model_once_for_a_shard(open_sora):
  run, checkout = open_sora
  prompts = [("a cat", 1), ("a {dog} and", 2), ("a cow\nin a field", 3), ("a cat", 4)]
  found, reasons, loads = run("many", *prompts)
  assert (reasons, loads) == ([""] * 4, 1)
  assert [video.frames for video in found] == [8] * 4
  assert len({video.sha256 for video in found}) == 4
  # Every prompt has its own seed, so its video is that of a run of its own.
  for place in (1, 3):
    (alone,), _, loads = run(f"alone{place}", prompts[place])
    assert (alone.sha256, loads) == (found[place].sha256, 1)
  # The text that the model is given is known from the prompt and the settings.
  sent = (checkout / "prompts.txt").read_text().splitlines()
  assert sent[2] == "a cow in a field aesthetic score: 6.5."
  suffix = found[2].settings["prompt_suffix"]
  assert [" ".join((p + suffix).split()) for p, _ in prompts] == sent[:4]


@pytest.mark.parametrize(
  ("word", "tries", "reason"), [("fail", 2, "no such luck"), ("big", 1, "of one: CUDA")]
)
def test_videos_made_before_a_failure_are_kept(open_sora, word, tries, reason):
  run, checkout = open_sora
  names = ["cat", "dog", "cow", word, "hen", "pig"]
  found, reasons, loads = run("some", *[(name, 0) for name in names])
  assert [video is not None for video in found] == [name != word for name in names]
  assert reason in reasons[3]
  sent = [
    line.split()[0] for line in (checkout / "prompts.txt").read_text().splitlines()
  ]
  assert all(sent.count(name) == 1 for name in names if name != word)
  # The first run, the failed prompt alone, and the rest.
  assert loads == 1 + tries + 1


def test_a_video_is_taken_while_the_next_is_made(open_sora):
  run, checkout = open_sora
  rows = [contract.render_request(p, "m", run.settings, 0) for p in ("a", "b", "slow")]
  clips = run.renderer.render(rows, lambda: None)
  assert next(clips).frames
  assert len((checkout / "prompts.txt").read_text().splitlines()) == 2
  clips.close()  # ends the command
  time.sleep(0.1)
  assert len((checkout / "prompts.txt").read_text().splitlines()) == 2


def test_videos_that_cannot_be_told_apart_are_refused(make, tmp_path):
  made, request = make("{seeds}")
  script = tmp_path / "render.py"
  script.write_text(
    script.read_text() + "\n  path.with_stem(path.stem + 'b').touch()\n"
  )
  with pytest.raises(RuntimeError, match="made 2 videos for 1 prompts, named sample_0"):
    list(made.render([request("a")], lambda: None))
  with pytest.raises(RuntimeError, match="made 4 videos for 2 prompts, named sample_0"):
    list(made.render([request("a"), request("b")], lambda: None))


def test_the_open_sora_preset_is_a_complete_command():
  preset = contract.preset("open-sora-1.2")
  values = preset | {"prompts": "P", "folder": "F", "seeds": "S", "programs": "B"}
  line = " ".join(command.fill(preset["command"], values))
  assert line.startswith(
    "python B/open_sora.py S scripts/inference.py configs/opensora"
  )
  assert "{" not in line
  with pytest.raises(base.ModelError, match="no such folder"):
    command.make({"model": "/no/checkout", "settings": preset})
