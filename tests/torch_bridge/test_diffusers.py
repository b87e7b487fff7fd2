"""The diffusers renderer, with the miniature's CogVideoX."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from torch_bridge import contract, shards
from torch_bridge.renderers import base, diffusers

PRESET = contract.preset(
  str(pathlib.Path(contract.__file__).parent / "miniature" / "preset.json")
)
MODEL = PRESET.pop("model")
SETTINGS = {key: value for key, value in PRESET.items() if key != "source"}
ENCODING = {"codec": "libx264", "crf": 17}


@pytest.fixture(scope="module")
def renderer():
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield diffusers.make({"model": MODEL, "settings": SETTINGS})
  torch.set_num_threads(before)


def _request(prompt, seed=0):
  return contract.render_request(prompt, MODEL, SETTINGS, seed)


def _frames(renderer, *requests):
  return [clip.frames for clip in renderer.render(requests, lambda: None)]


RED = "On a plain snow background, one large solid red circle growing steadily."
BLUE = "On a plain night background, three small striped blue squares resting still."


def test_a_batch_gives_the_videos_of_single_requests(renderer):
  requests = [_request(RED), _request(BLUE)]
  together = _frames(renderer, *requests)
  for request, frames in zip(requests, together, strict=True):
    assert frames.shape == (9, 32, 32, 3)
    np.testing.assert_allclose(_frames(renderer, request)[0], frames, atol=1e-3)


def test_prompt_and_seed_change_the_video(renderer):
  one, other, reseeded = _frames(
    renderer, _request(RED), _request(BLUE), _request(RED, 1)
  )
  assert np.abs(one - other).mean() > 0.05
  assert 1e-4 < np.abs(one - reseeded).mean() < np.abs(one - other).mean()


def test_tokens_beyond_the_limit_are_counted(renderer):
  limit = SETTINGS["text_tokens"]
  clips = renderer.render([_request(RED), _request("red " * 300)], lambda: None)
  # 300 words and the end token.
  assert [clip.lost_tokens for clip in clips] == [0, 301 - limit]


def test_every_step_gives_a_heartbeat(renderer):
  beats = []
  renderer.render([_request(RED)], lambda: beats.append(1))
  assert len(beats) == SETTINGS["num_inference_steps"]


def test_a_directory_without_a_pipeline_is_reported_in_one_line(tmp_path):
  with pytest.raises(base.ModelError, match="cannot be loaded as a pipeline") as caught:
    diffusers.make({"model": str(tmp_path), "settings": SETTINGS})
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "error",
  [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you ..."),
    torch.AcceleratorError("CUDA error: out of memory", 2),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    MemoryError("Unable to allocate 1.00 TiB for an array"),
  ],
  ids=lambda error: str(error)[:24],
)
def test_out_of_memory_in_the_pipeline_is_recognized(renderer, monkeypatch, error):
  """The error is raised inside a call of the real pipeline."""
  transformer = renderer._pipe.transformer
  forward = transformer.forward

  def short(hidden_states, **inputs):
    if len(hidden_states) > 2:  # guidance doubles a batch of one
      raise error
    return forward(hidden_states, **inputs)

  monkeypatch.setattr(transformer, "forward", short)
  with pytest.raises(base.OutOfMemory):
    renderer.render([_request(RED), _request(BLUE)], lambda: None)
  assert len(_frames(renderer, _request(RED))) == 1


def test_other_errors_in_the_pipeline_are_not_out_of_memory(renderer, monkeypatch):
  def broken(*_, **__):
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

  monkeypatch.setattr(renderer._pipe.transformer, "forward", broken)
  with pytest.raises(RuntimeError, match="shapes cannot") as caught:
    renderer.render([_request(RED)], lambda: None)
  assert not isinstance(caught.value, base.OutOfMemory)


def test_offload_changes_no_frame_and_tiling_is_passed_to_the_vae(renderer):
  request = _request(RED)
  options = {"offload": "model", "device": "cpu"}
  spec = {"model": MODEL, "settings": SETTINGS | {"tiling": True}}
  offloaded = diffusers.make(spec | {"settings": SETTINGS, "options": options})
  np.testing.assert_array_equal(
    _frames(offloaded, request)[0], _frames(renderer, request)[0]
  )
  assert diffusers.make(spec)._pipe.vae.use_tiling
  assert not renderer._pipe.vae.use_tiling


@pytest.mark.slow
@pytest.mark.skipif(
  sys.platform != "linux", reason="sets a memory limit in the way of Linux"
)
def test_a_worker_short_of_memory_halves_its_batch(tmp_path, monkeypatch):
  """The allocator fails, in a process with a memory limit."""
  monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parent))
  monkeypatch.setenv("LIMITED_MB", "450")
  monkeypatch.setenv("OMP_NUM_THREADS", "1")
  settings = SETTINGS | {"num_inference_steps": 1, "encoding": ENCODING}
  # Eight of the first take some 900 MB, one 250; the noise of the other alone 3,600.
  fits = settings | {"height": 192, "width": 192}
  large = settings | {"height": 20_000, "width": 20_000}
  rows = [contract.render_request(str(i), MODEL, fits, 0) for i in range(8)]
  rows.append(contract.render_request("large", MODEL, large, 0))
  queue = shards.Queue(tmp_path)
  queue.refill(rows, len(rows))
  spec = {"name": "limited", "model": MODEL, "settings": settings, "options": {}}
  job = {"version": contract.VERSION, "task": "render", "renderer": spec, "batch": 8}
  path = tmp_path / "job.json"
  path.write_text(json.dumps(job | {"store": str(tmp_path / "store")}))
  command = [sys.executable, "-m", "torch_bridge.worker", f"--job={path}"]
  ended = subprocess.run(command, capture_output=True, text=True)
  assert ended.returncode == 0, ended.stderr
  assert "out of memory: batches of 4 from now on" in ended.stdout
  store = contract.Store(tmp_path / "store")
  assert [bool(store.find_video(row.id)) for row in rows] == [True] * 8 + [False]
  failure = queue.failure(rows[-1].id)
  assert failure.reason.startswith("out of memory with a batch of one: ")
  assert "allocate memory" in failure.reason
