"""Makes pairs of clips of the miniature's world, encoded for its CogVideoX."""

import json
import pathlib

import numpy as np

from torch_bridge import contract, video
from torch_bridge.diffusion import encoder
from torch_bridge.miniature import captions, clips, world

PRESET = contract.preset(
  str(pathlib.Path(contract.__file__).parent / "miniature" / "preset.json")
)
MODEL = PRESET.pop("model")
SETTINGS = {key: value for key, value in PRESET.items() if key != "source"}
ENCODING = {"codec": "libx264", "crf": 17}

TRAINING = {
  "method": "lora",
  "rank": 4,
  "alpha": 8,
  "targets": ["to_q", "to_k", "to_v", "to_out.0"],
  "beta": 500.0,
  "batch_size": 2,
  "micro_batch": 1,
  "steps": 10,
  "peak_lr": 1e-3,
  "warmup": 2,
  "beta1": 0.9,
  "beta2": 0.999,
  "weight_decay": 1e-4,
  "clip_norm": 1.0,
  "seed": 0,
  "precision": "float32",
  "gradient_checkpointing": False,
  "shard": False,
  "checkpoint_every": 5,
  "keep": 2,
}


def write_clips(store, count):
  """Writes clips; returns their captions and their files, relative to the store."""
  random = np.random.default_rng(0)
  scenes = [world.draw(random) for _ in range(count)]
  texts = [captions.write(scene, random) for scene in scenes]
  paths = []
  for number, frames in enumerate(clips.render(scenes)):
    path = store.video(f"{number:016x}")
    path.parent.mkdir(parents=True, exist_ok=True)
    video.write(path, frames, 8, ENCODING)
    paths.append(str(path.relative_to(store.root)))
  return texts, paths


def encode(store, path="", prompt=""):
  """Encodes a video or a prompt with the miniature; returns the request's id."""
  task = encoder.make(store, {"model": MODEL, "settings": SETTINGS})
  sha256 = contract.sha256(store.root / path) if path else ""
  request = contract.encode_request(
    MODEL, SETTINGS, path=path, sha256=sha256, prompt=prompt
  )
  ((_, failure),) = task.work([request], lambda: None)
  assert failure is None
  return request.id


def write_job(folder, store, rows, **changes):
  """Writes a run's folder; returns the job."""
  changes, training = dict(changes), dict(TRAINING)
  training |= {key: changes.pop(key) for key in list(changes) if key in training}
  job = {
    "version": contract.VERSION,
    "task": "train",
    "store": str(store.root),
    "model": MODEL,
    "settings": SETTINGS,
    "options": {"device": "cpu"},
    "training": training,
  } | changes
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "job.json").write_text(json.dumps(job))
  contract.write_rows(folder / "train.jsonl", rows[:-1])
  contract.write_rows(folder / "heldout.jsonl", rows[-1:])
  return job
