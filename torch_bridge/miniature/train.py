"""Trains the miniature video model on clips and captions, on one CPU.

    python -m torch_bridge.miniature.train --out=DIR [--steps=N] [--seed=S] [--width=W]

Every few minutes it measures clips of held-out captions (`checks.csv`) and saves its
state; the same command continues an interrupted run. At the end it saves the averaged
weights to DIR/model, in float16. Batches and noise are functions of (seed, step).
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
DECAY = 0.3  # last part of the steps, over which the learning rate falls to zero
SMOOTHING = 0.998  # of the exponential moving average of the weights
DROPPED = 0.1  # share of empty captions, for guidance
UNKNOWN_WORDS_FROM = 0.6  # part of the steps after which captions get unknown words
# Share of clips trained at pure noise, where the caption alone decides: in the first
# half of the steps, and in the second.
PURE_NOISE = (0.9, 0.4)
OBJECT = 5.0  # loss weight of object pixels; most pixels are background
LARGEST = max(world.SIZES["large"])
STATE = "state.pt"


@dataclasses.dataclass
class Run:
  """The state of a run: the model, its average, the optimizer and the step."""

  pipe: Any
  average: Any
  optimizer: torch.optim.Optimizer
  seed: int
  step: int = 0
  seconds: float = 0.0

  def save(self, path: pathlib.Path) -> None:
    temporary = path.with_suffix(".aside")
    torch.save(
      {
        "transformer": self.pipe.transformer.state_dict(),
        "average": self.average.state_dict(),
        "optimizer": self.optimizer.state_dict(),
        "step": self.step,
        "seconds": self.seconds,
      },
      temporary,
    )
    temporary.replace(path)

  def load(self, path: pathlib.Path) -> None:
    state = torch.load(path, weights_only=True)
    self.pipe.transformer.load_state_dict(state["transformer"])
    self.average.load_state_dict(state["average"])
    self.optimizer.load_state_dict(state["optimizer"])
    self.step, self.seconds = state["step"], state["seconds"]


def begin(folder: pathlib.Path, seed: int, size: model.Size) -> Run:
  """A new run with a trained text encoder, or the run saved in the folder."""
  encoder = folder / "text_encoder"
  pipe = model.build(seed, size)
  if encoder.exists():
    pipe.text_encoder = transformers.T5EncoderModel.from_pretrained(encoder)
  else:
    losses = text.train(pipe.text_encoder, pipe.tokenizer, size.text_tokens, seed)
    (folder / "text.json").write_text(json.dumps(losses, indent=1) + "\n")
    temporary = encoder.with_name(f"{encoder.name}.aside")
    pipe.text_encoder.save_pretrained(temporary)
    temporary.replace(encoder)
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


def _smoothed(old: torch.Tensor, new: torch.Tensor, count: Any) -> torch.Tensor:
  # A smaller decay at first, so that the initial weights are soon forgotten.
  share = min(SMOOTHING, (1 + int(count)) / (10 + int(count)))
  return torch.lerp(new, old, share)


def rate(step: int, steps: int) -> float:
  """The learning rate: warmup, constant, then linear decay to zero."""
  left = (steps - step) / (DECAY * steps)
  return PEAK_LR * min(1.0, (step + 1) / WARMUP, left)


def batch(run: Run, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
  """Clips from -1 to 1 and their loss weights, [B, T, 3, H, W]; caption embeddings."""
  random = world.generator(run.seed, 2, run.step)
  scenes = [world.draw(random) for _ in range(BATCH)]
  texts = [captions.write(scene, random) for scene in scenes]
  texts = ["" if random.random() < DROPPED else caption for caption in texts]
  # Not from the start: in an earlier version of the world, a run with unknown words had
  # not learned motion by step 2,600, while a run without them had.
  if run.step >= UNKNOWN_WORDS_FROM * steps:
    texts = [captions.with_unknown_words(caption, random) for caption in texts]
  shown = clips.render(scenes).astype(np.float32)
  empty = np.stack([clips.background(s.background, s.light) for s in scenes])[:, None]
  apart = np.abs(shown - empty).max(-1, keepdims=True) > 20
  # More weight for small objects, whose shape is seen in fewer pixels.
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
  """Does one training step.

  Returns: the weighted mean squared error of the predicted clip.
  """
  pixels, weights, embedded = batch(run, steps)
  # Spread the seeds: the first numbers for neighbouring seeds are similar.
  noises = torch.Generator().manual_seed((run.seed << 40) + (run.step << 8) + 1)
  noise = torch.randn(pixels.shape, generator=noises)
  scheduler = run.pipe.scheduler
  last = scheduler.config.num_train_timesteps - 1
  when = torch.randint(0, last + 1, (BATCH,), generator=noises)
  share = PURE_NOISE[run.step >= steps / 2]
  when[torch.rand(BATCH, generator=noises) < share] = last
  noisy = scheduler.add_noise(pixels, noise, when)
  transformer = run.pipe.transformer
  with torch.autocast("cpu", dtype=torch.bfloat16):  # saves 25 % with AVX512-BF16
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
  """The pipeline with the averaged weights."""
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
  """Trains, continuing the run saved in the folder if there is one.

  Args:
    steps: of the complete run; the learning rate schedule depends on it.
    every: seconds between two checks.
    until: stops after this step; None is the last.
    size: of the model; None is the default.
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
      right = check.of_captions(pipe, seed, count=32)
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
  """Saves the averaged weights as a pipeline directory, in float16.

  The run's losses and checks are copied to `training/`.
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
