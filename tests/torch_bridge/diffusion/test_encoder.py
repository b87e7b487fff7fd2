"""The worker's task `encode`, with real files and a real worker."""

import json
import subprocess
import sys

import mini
import numpy as np
import pytest
import torch

from torch_bridge import contract, shards, video
from torch_bridge.diffusion import encoder, tensors

RANDOM = np.random.default_rng(0)


def _write(path, shape, level=255):
  frames = RANDOM.integers(0, level + 1, (*shape, 3)).astype(np.uint8)
  video.write(path, frames, 8, mini.ENCODING)


def test_bad_videos_are_set_aside_in_one_line_and_the_rest_is_encoded(tmp_path):
  store = contract.Store(tmp_path / "store")
  store.root.mkdir()
  _write(store.root / "good.mp4", (9, 32, 32))
  _write(store.root / "wide.mp4", (9, 32, 48))
  _write(store.root / "short.mp4", (8, 32, 32))
  _write(store.root / "black.mp4", (9, 32, 32), level=0)
  (store.root / "text.mp4").write_text("no video")
  reasons = {
    "wide": "wide.mp4: frames x height x width are 9x32x48, not 9x32x32",
    "short": "short.mp4: frames x height x width are 8x32x32, not 9x32x32",
    "black": "black.mp4: black: no pixel is brighter than 4 of 255",
    "text": "not a complete video file",
    "good": "",
  }
  requests = {
    name: contract.EncodeRequest(f"id-{name}", f"{name}.mp4", "") for name in reasons
  }
  requests["prompt"] = contract.EncodeRequest("id-prompt", "", "a red circle")
  queue = shards.Queue(tmp_path / "queue")
  queue.refill(list(requests.values()), 4)
  spec = {
    "name": "torch_bridge.diffusion.encoder",
    "model": mini.MODEL,
    "settings": mini.SETTINGS,
    "options": {"device": "cpu"},
  }
  job = {"version": contract.VERSION, "task": "encode", "encoder": spec}
  path = queue.root / "job.json"
  path.write_text(json.dumps(job | {"store": str(store.root)}))
  ended = subprocess.run(
    [sys.executable, "-m", "torch_bridge", "worker", f"--job={path}"],
    capture_output=True,
    text=True,
  )
  assert ended.returncode == 0, ended.stderr
  for name, reason in reasons.items():
    failure = queue.failure(requests[name].id)
    if reason:
      assert reason in failure.reason
      assert "\n" not in failure.reason
    else:
      assert failure is None
  latents = tensors.read(store.encoded("id-good"))[encoder.LATENTS]
  assert latents.shape == (9, 3, 32, 32)
  assert -1.05 < latents.min() < -0.8  # the miniature's latents are pixels
  assert 0.8 < latents.max() < 1.05
  assert tensors.read(store.encoded("id-prompt"))["encoder_hidden_states"].shape == (
    mini.SETTINGS["text_tokens"],
    128,
  )


def test_a_truncated_file_counts_as_missing(tmp_path):
  path = tmp_path / "a.safetensors"
  assert not tensors.is_intact(path)
  tensors.write(path, {"latents": torch.ones(100)})
  assert tensors.is_intact(path)
  path.write_bytes(path.read_bytes()[:-1])
  assert not tensors.is_intact(path)


@pytest.mark.parametrize(
  ("change", "same"),
  [
    ({}, True),
    ({"guidance_scale": 9.0, "num_inference_steps": 3}, True),
    ({"width": 64}, False),
    ({"text_tokens": 12}, False),
    ({"dtype": "bfloat16"}, False),
  ],
)
def test_an_encoding_is_named_by_all_that_changes_it(change, same):
  def request(settings, sha256="ab", model="m"):
    return contract.encode_request(model, settings, path="v.mp4", sha256=sha256).id

  first = request(mini.SETTINGS)
  assert (request(mini.SETTINGS | change) == first) == same
  assert request(mini.SETTINGS, sha256="cd") != first
  assert request(mini.SETTINGS, model="n") != first
