"""Writes a folder that behaves like Open-Sora 1.2's checkout, without its model.

As in the release, the seed is set once, the noise of each prompt is drawn after it, the
score is appended to prompts without one, and the videos are sample_0000.mp4, ...
"""

import pathlib

_PACKAGE = str(pathlib.Path(__file__).parents[2])

_UTILS = """
import json

def extract_json_from_prompts(prompts, references, masks):
  for prompt in prompts:
    head, brace, options = prompt.partition("{")
    if brace:
      json.loads(brace + options)
  return prompts, references, masks

def append_score_to_prompts(prompts, aes):
  suffix = f" aesthetic score: {aes}."
  return [p if "aesthetic score:" in p else p + suffix for p in prompts]
"""

_INFERENCE = f"""
import argparse
import os
import pathlib
import sys
import time
import torch
from opensora.utils.inference_utils import (
  append_score_to_prompts, extract_json_from_prompts)

parser = argparse.ArgumentParser()
parser.add_argument("config")
for name in ("prompt-path", "save-dir", "num-frames", "resolution", "aspect-ratio"):
  parser.add_argument("--" + name)
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--num-sampling-steps", type=int)
parser.add_argument("--cfg-scale", type=float)
parser.add_argument("--batch-size", type=int, default=1)
args = parser.parse_args()
assert (args.num_sampling_steps, args.cfg_scale) == (30, 7.0)
assert (args.num_frames, args.resolution, args.aspect_ratio) == ("4s", "720p", "9:16")

torch.manual_seed(args.seed)
with open("loads.txt", "a") as file:
  file.write("load\\n")
torch.randn(3)  # the model's initial weights

sys.path.insert(0, {_PACKAGE!r})
from torch_bridge import video

prompts = [line.strip() for line in open(args.prompt_path)]
for i in range(0, len(prompts), args.batch_size):
  batch, _, _ = extract_json_from_prompts(prompts[i : i + args.batch_size], [""], [""])
  for k, text in enumerate(append_score_to_prompts(batch, 6.5)):
    z = torch.randn(8, 16, 16, 3)
    if text.startswith("fail"):
      sys.exit("no such luck")
    if text.startswith("big"):
      sys.exit("CUDA out of memory")
    if text.startswith("slow"):
      time.sleep(6)
    with open("prompts.txt", "a") as file:
      file.write(text + "\\n")
    shade = len(text) % 7
    frames = (z.repeat_interleave(4, 1).repeat_interleave(4, 2) * 30 + 100 + shade)
    path = pathlib.Path(args.save_dir) / f"sample_{{i + k:04d}}.mp4"
    frames = frames.clamp(0, 255).to(torch.uint8).numpy()
    video.write(path, frames, 24, {{"codec": "libx264", "crf": 17}})
"""


def write(folder):
  """Writes the checkout to `folder`, which goes on PYTHONPATH."""
  for name in ("opensora", "opensora/utils", "scripts"):
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
  (folder / "opensora" / "utils" / "inference_utils.py").write_text(_UTILS)
  (folder / "scripts" / "inference.py").write_text(_INFERENCE)
