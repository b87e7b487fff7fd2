"""What the video model gets right, measured on its clips."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

# pyright: reportPrivateImportUsage=false
import diffusers
import numpy as np
import torch

from torch_bridge.miniature import captions, measure, world

STEPS = 10
GUIDANCE = 2.0
_BATCH = 32


def load(folder: str | os.PathLike) -> Any:
  """The pipeline that a directory holds, in single precision."""
  # Newer versions say `dtype`; older ones know only this.
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="`torch_dtype` is deprecated")
    return diffusers.CogVideoXPipeline.from_pretrained(
      folder, torch_dtype=torch.float32
    )


def render(
  pipe: Any, prompts: Sequence[str], seeds: Sequence[int], guidance: float = GUIDANCE
) -> np.ndarray:
  """Clips by the pipeline, uint8 [B, T, H, W, 3]."""
  pipe.set_progress_bar_config(disable=True)
  made = []
  for first in range(0, len(prompts), _BATCH):
    noise = [torch.Generator().manual_seed(s) for s in seeds[first : first + _BATCH]]
    output = pipe(
      prompt=list(prompts[first : first + _BATCH]),
      height=world.SIDE,
      width=world.SIDE,
      num_frames=world.FRAMES,
      num_inference_steps=STEPS,
      guidance_scale=guidance,
      generator=noise,
      output_type="np",
      max_sequence_length=pipe.transformer.config.max_text_seq_length,
    )
    made.append(output.frames)
  return np.rint(np.concatenate(made) * 255).astype(np.uint8)


def scenes(seed: int, count: int, hazard_share: float = 0.0) -> list[world.Scene]:
  """Held-out scenes: no training step draws from this key."""
  random = world.generator(seed, 3)
  return [world.draw(random, hazard_share) for _ in range(count)]


def register(
  pipe: Any, seed: int, clips_wanted: int, guidance: float = GUIDANCE
) -> dict[str, float]:
  """Shares of clips that show what their captions say: each attribute, and all."""
  wanted = scenes(seed, clips_wanted)
  random = world.generator(seed, 4)
  prompts = [captions.write(scene, random) for scene in wanted]
  frames = render(pipe, prompts, range(len(prompts)), guidance)
  return accuracy(wanted, frames)


def accuracy(
  wanted: Sequence[world.Scene], frames_BTHW3: np.ndarray
) -> dict[str, float]:
  read = [measure.read(clip).attributes for clip in frames_BTHW3]
  right = {
    name: [
      getattr(scene, name) == found[name]
      for scene, found in zip(wanted, read, strict=True)
    ]
    for name in world.VISIBLE
  }
  right["all"] = [all(row) for row in zip(*right.values(), strict=True)]
  return {name: round(float(np.mean(row)), 4) for name, row in right.items()}
