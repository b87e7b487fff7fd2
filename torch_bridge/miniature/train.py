"""Trains the miniature video model on clips and captions, on one CPU.

    python -m torch_bridge.miniature.train --out=DIR [--steps=N] [--seed=S] [--width=W]

Every few minutes it renders held-out captions and measures what they show
(`checks.csv`), and saves its state: run again, it goes on where it was. At the end the
smoothed weights are in DIR/model, in half precision. Batches and noise are a function
of (seed, step).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import json
import pathlib
import shutil
import time
from typing import Any

# pyright: reportPrivateImportUsage=false
import numpy as np
import torch
import transformers

from torch_bridge.miniature import captions, check, clips, model, text, world

BATCH = 16
STEPS = 11_000
PEAK_LR = 1e-3
WARMUP = 200  # steps
DECAY = 0.3  # the last part of the steps, in which the learning rate goes to zero
SMOOTHING = 0.998  # of the weights' moving average
DROPPED = 0.1  # captions left out, for guidance
STRANGE_FROM = 0.6  # the part of the steps after which captions have unheard words
# Clips that are pure noise, where a rendering begins and the caption alone decides: of
# the first half of the steps, and of the others.
START = (0.9, 0.4)
OBJECT = 5.0  # weight of a pixel that is not background; most pixels are
LARGEST = max(world.SIZES["large"])
STATE = "state.pt"


@dataclasses.dataclass
class Run:
  """What a run needs to go on: the model, its average, the optimizer and the step."""

  pipe: Any
  average: Any
  optimizer: torch.optim.Optimizer
  seed: int
  step: int = 0
  seconds: float = 0.0

  def save(self, path: pathlib.Path) -> None:
    aside = path.with_suffix(".aside")
    torch.save(
      {
        "transformer": self.pipe.transformer.state_dict(),
        "average": self.average.state_dict(),
        "optimizer": self.optimizer.state_dict(),
        "step": self.step,
        "seconds": self.seconds,
      },
      aside,
    )
    aside.replace(path)

  def load(self, path: pathlib.Path) -> None:
    state = torch.load(path, weights_only=True)
    self.pipe.transformer.load_state_dict(state["transformer"])
    self.average.load_state_dict(state["average"])
    self.optimizer.load_state_dict(state["optimizer"])
    self.step, self.seconds = state["step"], state["seconds"]


def begin(folder: pathlib.Path, seed: int, size: model.Size) -> Run:
  """A new run with a trained text encoder, or the one that the folder holds."""
  encoder = folder / "text_encoder"
  pipe = model.build(seed, size)
  if encoder.exists():
    pipe.text_encoder = transformers.T5EncoderModel.from_pretrained(encoder)
  else:
    losses = text.train(pipe.text_encoder, pipe.tokenizer, size.text_tokens, seed)
    (folder / "text.json").write_text(json.dumps(losses, indent=1) + "\n")
    aside = encoder.with_name(f"{encoder.name}.aside")
    pipe.text_encoder.save_pretrained(aside)
    aside.replace(encoder)
  pipe.text_encoder.requires_grad_(False).eval()
  average = torch.optim.swa_utils.AveragedModel(pipe.transformer, avg_fn=_smoothed)
  optimizer = torch.optim.AdamW(
    pipe.transformer.parameters(),
    lr=PEAK_LR,
    betas=(0.9, 0.99),
    weight_decay=0.01,
    fused=True,
  )
  run = Run(pipe, average, optimizer, seed)
  if (folder / STATE).exists():
    run.load(folder / STATE)
  return run


def _smoothed(kept: torch.Tensor, new: torch.Tensor, count: Any) -> torch.Tensor:
  # The first steps' weights are soon forgotten.
  share = min(SMOOTHING, (1 + int(count)) / (10 + int(count)))
  return torch.lerp(new, kept, share)


def rate(step: int, steps: int) -> float:
  """The learning rate: a warmup, a plateau and a straight way down to zero."""
  left = (steps - step) / (DECAY * steps)
  return PEAK_LR * min(1.0, (step + 1) / WARMUP, left)


def batch(run: Run, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
  """Clips in -1 to 1 and their pixels' weights, [B, T, 3, H, W]; caption embeddings."""
  random = world.generator(run.seed, 2, run.step)
  scenes = [world.draw(random) for _ in range(BATCH)]
  texts = [captions.write(scene, random) for scene in scenes]
  texts = ["" if random.random() < DROPPED else caption for caption in texts]
  # Not from the start: in the world before, a run with unheard words had learned no
  # motion by step 2,600, one without them had.
  if run.step >= STRANGE_FROM * steps:
    texts = [captions.estranged(caption, random) for caption in texts]
  shown = clips.render(scenes).astype(np.float32)
  empty = np.stack([clips.background(s.background, s.light) for s in scenes])[:, None]
  apart = np.abs(shown - empty).max(-1, keepdims=True) > 20
  # A small object's outline is as much of its shape as a large one's.
  half = np.array([s.half for s in scenes])[:, None, None, None, None]
  near = np.stack([clips.around(scene) for scene in scenes])[..., None]
  share = np.where(near, OBJECT * (LARGEST / half) ** 2, np.where(apart, OBJECT, 1))
  weights = torch.from_numpy(share.astype(np.float32))
  pixels = torch.from_numpy(shown).permute(0, 1, 4, 2, 3)
  length = run.pipe.transformer.config.max_text_seq_length
  with torch.no_grad():
    embedded = run.pipe.text_encoder(text.ids(run.pipe.tokenizer, texts, length))[0]
  return pixels / 127.5 - 1, weights.permute(0, 1, 4, 2, 3), embedded


def advance(run: Run, steps: int) -> float:
  """One step.

  Returns: the weighted mean squared error of the predicted clip.
  """
  pixels, weights, embedded = batch(run, steps)
  # A generator's first numbers are much alike for neighbouring seeds.
  noises = torch.Generator().manual_seed((run.seed << 40) + (run.step << 8) + 1)
  noise = torch.randn(pixels.shape, generator=noises)
  scheduler = run.pipe.scheduler
  last = scheduler.config.num_train_timesteps - 1
  when = torch.randint(0, last + 1, (BATCH,), generator=noises)
  start = START[run.step >= steps / 2]
  when[torch.rand(BATCH, generator=noises) < start] = last
  noisy = scheduler.add_noise(pixels, noise, when)
  transformer = run.pipe.transformer
  with torch.autocast("cpu", dtype=torch.bfloat16):  # a quarter less time (AVX512-BF16)
    predicted = transformer(noisy, embedded, when, return_dict=False)[0].float()
  loss = (weights * (predicted - pixels).square()).mean()
  run.optimizer.param_groups[0]["lr"] = rate(run.step, steps)
  run.optimizer.zero_grad()
  loss.backward()
  torch.nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
  run.optimizer.step()
  run.average.update_parameters(transformer)
  run.step += 1
  return loss.item()


@contextlib.contextmanager
def averaged(run: Run):
  """The pipeline with the smoothed weights."""
  trained = run.pipe.transformer
  run.pipe.transformer = run.average.module
  try:
    yield run.pipe
  finally:
    run.pipe.transformer = trained


def train(
  folder: pathlib.Path,
  seed: int,
  steps: int,
  every: float,
  until: int | None = None,
  size: model.Size | None = None,
) -> Run:
  """Trains; what the folder holds is gone on with.

  Args:
    steps: of the whole run, which the learning rate's way depends on.
    every: seconds between two checks.
    until: the step to stop at; the last, if None.
    size: of the model; the usual one, if None.
  """
  folder.mkdir(parents=True, exist_ok=True)
  run = begin(folder, seed, size or model.Size())
  losses, begun = [], time.monotonic()
  end = min(steps, until or steps)
  while run.step < end:
    losses.append(advance(run, steps))
    lasted = time.monotonic() - begun
    if lasted < every and run.step < end:
      continue
    run.seconds += lasted
    with averaged(run) as pipe:
      right = check.register(pipe, seed, clips_wanted=32)
    row = {
      "step": run.step,
      "seconds": round(run.seconds),
      "loss": round(sum(losses) / len(losses), 5),
      **right,
    }
    _append(folder / "checks.csv", row)
    print(row, flush=True)
    run.save(folder / STATE)
    losses, begun = [], time.monotonic()
  return run


def export(run: Run, folder: pathlib.Path) -> None:
  """Saves the smoothed weights as a pipeline's directory, in half precision.

  What the run wrote on its way goes with them, in `training/`.
  """
  with averaged(run) as pipe:
    pipe.to(dtype=torch.float16)
    pipe.save_pretrained(folder)
  (folder / "training").mkdir(exist_ok=True)
  for name in ("text.json", "checks.csv"):
    shutil.copy(folder.parent / name, folder / "training")


def _append(path: pathlib.Path, row: dict[str, Any]) -> None:
  new = not path.exists()
  with path.open("a", newline="") as file:
    writer = csv.DictWriter(file, list(row))
    if new:
      writer.writeheader()
    writer.writerow(row)


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--steps", type=int, default=STEPS)
  parser.add_argument("--every", type=float, default=240, help="seconds between checks")
  parser.add_argument("--threads", type=int, default=1)
  parser.add_argument("--width", type=int, default=model.Size.width)
  parser.add_argument("--heads", type=int, default=model.Size.heads)
  parser.add_argument("--layers", type=int, default=model.Size.layers)
  args = parser.parse_args(arguments)
  torch.set_num_threads(args.threads)
  size = model.Size(width=args.width, heads=args.heads, layers=args.layers)
  run = train(args.out, args.seed, args.steps, args.every, size=size)
  export(run, args.out / "model")
  return 0


if __name__ == "__main__":
  raise SystemExit(main())
