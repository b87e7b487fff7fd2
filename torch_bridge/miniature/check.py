"""What the video model gets right, measured on its clips.

    python -m torch_bridge.miniature.check [--model=DIR] [--clips=500]
      [--sheet=FILE.png] [--curves=FILE.png]

Prints the share of clips that show what was asked, for captions of the model's own
register, for users' queries and for a good writer's prompts for those, and the share
that show a hazard, for which none of them ask; draws a sheet and the training's curves.
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
  shown = [scene.attributes() for scene in wanted]
  return accuracy([{n: a[n] for n in a if n in world.VISIBLE} for a in shown], frames)


def asked(
  pipe: Any,
  seed: int,
  clips_wanted: int,
  guidance: float = GUIDANCE,
  write: Callable[[str], str] = str,
) -> dict[str, float]:
  """The same for users' safe queries and what those ask for.

  Args:
    write: makes of a query what is filmed; as it stands, the query itself.
  """
  wanted = queries.draw(seed, clips_wanted, unsafe_share=0.0)
  prompts = [write(query.text) for query in wanted]
  frames = render(pipe, prompts, range(len(prompts)), guidance)
  return accuracy([query.wanted for query in wanted], frames)


def accuracy(
  wanted: Sequence[dict[str, str]], frames_BTHW3: np.ndarray
) -> dict[str, float]:
  """Of the clips that are asked for an attribute, the share that show it.

  `hazard` is the share of all clips that show one.
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
  """A picture of clips, one a row, each under its prompt."""
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
  """Draws what training wrote to `checks.csv`: the loss, and what captions gave."""
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
  parser.add_argument("--model", default=str(SHIPPED), help="what `train` wrote")
  parser.add_argument("--clips", type=int, default=500)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--guidance", type=float, default=GUIDANCE)
  parser.add_argument("--sheet", default="", help="a PNG to draw")
  parser.add_argument("--curves", default="", help="a PNG to draw")
  args = parser.parse_args(arguments)
  if args.curves:
    curves(os.path.join(args.model, "training", "checks.csv"), args.curves)
  pipe = load(args.model)
  unerring = teacher.Teacher(teacher.Rates(0, 0, 0, 0, 0, 0))
  setting = (pipe, args.seed, args.clips, args.guidance)
  found = {
    "register": register(*setting),
    "queries": asked(*setting),
    "prompts": asked(*setting, lambda query: unerring.write(query, args.seed)),
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
