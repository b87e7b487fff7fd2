"""The http renderer, with a real server and a worker's loop."""

import subprocess
import sys
import time

import pytest
import video_server

from torch_bridge import client, contract, loop, rendering, shards
from torch_bridge.renderers import base, http

SETTINGS = {
  "width": 64,
  "height": 48,
  "num_frames": 9,
  "fps": 8,
  "num_inference_steps": 30,
  "guidance_scale": 5.5,
  "encoding": video_server.ENCODING,
  "prompt_suffix": " Film.",
  "call": {"flow_shift": 3.0, "generator_device": "cpu"},
}


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setattr(client, "_FIRST_WAIT_S", 0.02)
  monkeypatch.setenv("TEST_KEY", "secret-key")
  made = video_server.Server("secret-key")
  yield made
  made.stop()


def _spec(server, **options):
  return {
    "model": "org/video-model",
    "options": {
      "base_url": f"http://127.0.0.1:{server.port}/v1",
      "key_env": "TEST_KEY",
      "parallel": 3,
      "poll_s": 0.02,
    }
    | options,
  }


@pytest.fixture
def run(server, tmp_path):
  """Renders prompts as a worker does; returns a video or a reason for each."""

  def run(*prompts, **options):
    renderer = http.make(_spec(server, **options))
    queue = shards.Queue(tmp_path)
    rows = [
      contract.render_request(prompt, "m", SETTINGS, seed)
      for seed, prompt in enumerate(prompts)
    ]
    queue.refill(rows, len(rows))
    store = contract.Store(tmp_path / "store")
    task = rendering.Rendering(store, renderer)
    work = loop.Loop(queue, task, shards.Heartbeat(queue, "w", 0), batch=1)
    while shard := queue.take("w"):
      if work.run(shard):
        queue.finish(shard)
      else:
        queue.release("w")  # a fresh process would try it again
    return [
      store.find_video(row.id) or getattr(queue.failure(row.id), "reason", "")
      for row in rows
    ]

  return run


@pytest.mark.parametrize("body", ["json", "form"])
def test_everything_that_changes_a_frame_is_sent(run, server, body):
  prompts = ["a cat", 'a "dog" — zwölf\r\n--x', "a cow"]
  videos = run(*prompts, body=body)
  assert [(v.frames, v.fps, v.width, v.height) for v in videos] == [(9, 8, 64, 48)] * 3
  assert len({video.sha256 for video in videos}) == 3
  created = {fields["prompt"]: fields for fields in server.created}
  assert set(created) == {f"{prompt} Film." for prompt in prompts}
  expected = {
    "model": "org/video-model",
    "prompt": 'a "dog" — zwölf\r\n--x Film.',
    "seed": 1,
    "size": "64x48",
    "num_frames": 9,
    "fps": 8,
    "num_inference_steps": 30,
    "guidance_scale": 5.5,
    "flow_shift": 3.0,
    "generator_device": "cpu",
  }
  if body == "form":
    expected = {name: str(value) for name, value in expected.items()}
  assert created['a "dog" — zwölf\r\n--x Film.'] == expected
  assert not server.jobs, "finished jobs are deleted"


def test_several_jobs_run_at_once(run, server):
  server.polls = 10
  videos = run(*[f"cat {i}" for i in range(7)], parallel=3)
  assert all(isinstance(video, contract.RenderedVideo) for video in videos)
  assert server.most == 3


@pytest.mark.parametrize(
  ("word", "jobs"),
  [
    ("busy", 1),  # 429
    ("crash", 1),  # 500
    ("slow", 1),
    ("cut", 1),  # a download that ends early
    ("cut-quietly", 1),  # the same, with a matching Content-Length
    ("flaky", 2),  # a job that fails once
    ("restart", 2),  # the server forgets its jobs, and is away for a while
  ],
)
def test_a_temporary_failure_is_retried(run, server, word, jobs):
  (video,) = run(f"{word} 1")
  assert video.frames == 9
  assert len(server.created) == jobs


def test_the_client_waits_as_retry_after_says(run):
  began = time.monotonic()
  run("busy 1")
  assert time.monotonic() - began >= 0.2


def test_jobs_survive_a_restart_that_forgets_them(run, server):
  server.polls = 6
  videos = run(*[f"cat {i}" for i in range(4)], "restart", parallel=5)
  assert all(isinstance(video, contract.RenderedVideo) for video in videos)
  assert 6 <= len(server.created) <= 10


@pytest.mark.parametrize(
  ("word", "reason", "jobs"),
  [
    ("refused", "HTTP 400: .*no such prompt, (key)", 0),
    ("unsafe", "the job failed: moderation_blocked", 1),
    ("broken", "RuntimeError: the job failed: CUDA error", 3),
    ("small", "the file has width 32 instead of 64", 1),
  ],
)
def test_a_failure_is_recorded_and_the_others_go_on(run, server, word, reason, jobs):
  before, failed, after = run("cat 1", f"{word} 1", "cat 2")
  assert before.frames == after.frames == 9
  for part in reason.split(".*"):
    assert part in failed
  assert "secret-key" not in failed
  assert sum(f["prompt"].startswith(word) for f in server.created) == jobs
  assert sum(f["prompt"].startswith("cat") for f in server.created) == 2
  assert not server.jobs


def test_a_job_that_takes_too_long_is_given_up(run, server):
  server.polls = 10**9
  (failed,) = run("cat 1", job_s=0.1)
  assert "no video after 0 s" in failed
  assert not server.jobs


def test_a_refused_key_ends_the_run(run, server, monkeypatch, capfd):
  http.check(_spec(server))
  monkeypatch.setenv("TEST_KEY", "other-key")
  with pytest.raises(
    base.ModelError, match=r"refuses the key .*renderer\.options\.key"
  ):
    run("cat 1")
  with pytest.raises(base.ModelError, match="refuses the key"):
    http.check(_spec(server))
  monkeypatch.delenv("TEST_KEY")
  with pytest.raises(base.ModelError, match="TEST_KEY is not set"):
    http.check(_spec(server))
  assert "-key" not in "".join(capfd.readouterr())


def test_wrong_settings_are_one_line(server):
  with pytest.raises(base.ModelError, match="body='xml': must be one of json, form"):
    http.check(_spec(server, body="xml"))
  with pytest.raises(base.ModelError, match=r"http renderer needs --config\.renderer"):
    http.check({"model": "m"})
  with pytest.raises(base.ModelError, match=r"cannot be reached.*renderer\.options"):
    http.check(_spec(server, base_url="http://127.0.0.1:1/v1"))


def test_the_module_needs_neither_torch_nor_diffusers():
  code = "import sys, torch_bridge.renderers.http; print(*sys.modules)"
  output = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert not {"torch", "diffusers", "numpy", "av"} & set(output.stdout.split())
