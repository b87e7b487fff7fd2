"""Measures how often the video model's clips show what their prompts ask for.

    python -m torch_bridge.miniature.check [--model=DIR] [--clips=500]
      [--sheet=FILE.png] [--curves=FILE.png]

Prints, for each attribute, the share of clips that show the requested value: for
captions ("register"), for users' queries, and for an error-free teacher's prompts. None
of these ask for a hazard; "hazard" is the share of clips that show one. Optionally
draws a sheet of clips and the training curves.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

# pyright: reportPrivateImportUsage=false
import diffusers
import numpy as np
import torch
from PIL import Image, ImageDraw

from torch_bridge.miniature import captions, measure, queries, teacher, world

SHIPPED = pathlib.Path(__file__).with_name("model")
STEPS = 10
GUIDANCE = 2.0
_BATCH = 32


def load(folder: str | os.PathLike) -> Any:
  """Loads the pipeline from a directory, in float32."""
  # Newer versions call it `dtype`; older ones accept only this name.
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="`torch_dtype` is deprecated")
    return diffusers.CogVideoXPipeline.from_pretrained(
      folder, torch_dtype=torch.float32
    )


def render(
  pipe: Any, prompts: Sequence[str], seeds: Sequence[int], guidance: float = GUIDANCE
) -> np.ndarray:
  """Renders one clip per prompt, uint8 [B, T, H, W, 3]."""
  pipe.set_progress_bar_config(disable=True)
  batches = []
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
    batches.append(output.frames)
  return np.rint(np.concatenate(batches) * 255).astype(np.uint8)


def scenes(seed: int, count: int, hazard_share: float = 0.0) -> list[world.Scene]:
  """Held-out scenes: training never uses this random key."""
  random = world.generator(seed, 3)
  return [world.draw(random, hazard_share) for _ in range(count)]


def of_captions(
  pipe: Any, seed: int, count: int, guidance: float = GUIDANCE
) -> dict[str, float]:
  """`accuracy` for captions of held-out scenes."""
  wanted = scenes(seed, count)
  random = world.generator(seed, 4)
  prompts = [captions.write(scene, random) for scene in wanted]
  frames = render(pipe, prompts, range(len(prompts)), guidance)
  shown = [scene.attributes() for scene in wanted]
  return accuracy([{n: a[n] for n in a if n in world.VISIBLE} for a in shown], frames)


def of_queries(
  pipe: Any,
  seed: int,
  count: int,
  guidance: float = GUIDANCE,
  write: Callable[[str], str] = str,
) -> dict[str, float]:
  """`accuracy` for users' safe queries.

  Args:
    write: turns a query into the prompt to render; by default, the query itself.
  """
  wanted = queries.draw(seed, count, unsafe_share=0.0)
  prompts = [write(query.text) for query in wanted]
  frames = render(pipe, prompts, range(len(prompts)), guidance)
  return accuracy([query.wanted for query in wanted], frames)


def accuracy(
  wanted: Sequence[dict[str, str]], frames_BTHW3: np.ndarray
) -> dict[str, float]:
  """For each attribute, the share of clips that show the requested value.

  Clips without a request for the attribute do not count. "all" is the share of clips
  that show every requested value, "hazard" the share that show a hazard.
  """
  right: dict[str, list[bool]] = {
    name: [] for name in (*world.VISIBLE, "all", "hazard")
  }
  for values, clip in zip(wanted, frames_BTHW3, strict=True):
    shown = measure.read(clip).attributes
    hits = {name: shown[name] == value for name, value in values.items()}
    for name, hit in hits.items():
      right[name].append(hit)
    right["all"].append(all(hits.values()))
    right["hazard"].append(shown["hazard"] != "none")
  return {name: round(float(np.mean(row or [0])), 4) for name, row in right.items()}


def sheet(
  prompts: Sequence[str], frames_BTHW3: np.ndarray, zoom: int = 3
) -> Image.Image:
  """Draws clips, one per row, each below its prompt."""
  count, times, height, width, _ = frames_BTHW3.shape
  line = 14
  row = height * zoom + line
  picture = Image.new("RGB", (times * width * zoom, count * row), "white")
  pen = ImageDraw.Draw(picture)
  for index, (prompt, clip) in enumerate(zip(prompts, frames_BTHW3, strict=True)):
    pen.text((2, index * row + 1), prompt[:140], fill="black")
    strip = Image.fromarray(np.concatenate(list(clip), axis=1))
    strip = strip.resize(
      (times * width * zoom, height * zoom), Image.Resampling.NEAREST
    )
    picture.paste(strip, (0, index * row + line))
  return picture


def curves(path: str | os.PathLike, out: str | os.PathLike) -> None:
  """Draws the loss and the accuracies that training wrote to `checks.csv`."""
  import matplotlib

  matplotlib.use("agg")
  from matplotlib import pyplot

  with open(path, newline="") as file:
    rows = list(csv.DictReader(file))
  steps = [int(row["step"]) for row in rows]
  figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 5))
  above.plot(steps, [float(row["loss"]) for row in rows], color="black")
  above.set_ylabel("loss")
  for name in world.VISIBLE:
    below.plot(steps, [100 * float(row[name]) for row in rows], label=name)
  below.set(xlabel="step", ylabel="% right of 32 captions", ylim=(0, 103))
  below.legend(frameon=False, ncols=5, fontsize=8)
  figure.tight_layout()
  figure.savefig(out, dpi=100)


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--model", default=str(SHIPPED), help="as saved by `train`")
  parser.add_argument("--clips", type=int, default=500)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--guidance", type=float, default=GUIDANCE)
  parser.add_argument("--sheet", default="", help="PNG file for example clips")
  parser.add_argument("--curves", default="", help="PNG file for the training curves")
  args = parser.parse_args(arguments)
  if args.curves:
    curves(os.path.join(args.model, "training", "checks.csv"), args.curves)
  pipe = load(args.model)
  error_free = teacher.Teacher(teacher.Rates(0, 0, 0, 0, 0, 0))
  setting = (pipe, args.seed, args.clips, args.guidance)
  found = {
    "register": of_captions(*setting),
    "queries": of_queries(*setting),
    "prompts": of_queries(*setting, lambda query: error_free.write(query, args.seed)),
  }
  print(json.dumps(found, indent=1))
  if args.sheet:
    random = world.generator(args.seed, 4)
    prompts = [captions.write(scene, random) for scene in scenes(args.seed, 8)]
    prompts += [query.text for query in queries.draw(args.seed, 8)]
    frames = render(pipe, prompts, range(len(prompts)), args.guidance)
    sheet(prompts, frames).save(args.sheet)
  return 0


if __name__ == "__main__":
  raise SystemExit(main())
