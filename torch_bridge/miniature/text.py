"""Trains the text encoder alone, to classify the attributes that a caption names.

Words are learned slowly from the diffusion loss. Seconds of classification separate all
attribute values, and the encoder is frozen afterwards.
"""

from __future__ import annotations

import torch
import transformers

from torch_bridge.miniature import captions, world

BATCH = 64
STEPS = 400
PEAK_LR = 2e-3
_ABSENT = -100  # label of an attribute that a scene does not have


def ids(
  tokenizer: transformers.T5Tokenizer, texts: list[str], length: int
) -> torch.Tensor:
  """Token ids [B, length], padded and truncated as in the pipeline."""
  return tokenizer(
    texts,
    padding="max_length",
    max_length=length,
    truncation=True,
    return_tensors="pt",
  ).input_ids


def train(
  encoder: transformers.T5EncoderModel,
  tokenizer: transformers.T5Tokenizer,
  length: int,
  seed: int,
  steps: int | None = None,
) -> dict[str, float]:
  """Trains the encoder in place.

  Returns: each attribute's mean loss over the last tenth of the steps, in nats.
  """
  steps = steps or STEPS
  width = encoder.config.d_model
  with torch.random.fork_rng(devices=[]):
    torch.manual_seed(seed)
    heads = torch.nn.ModuleDict(
      {name: torch.nn.Linear(width, len(v)) for name, v in world.ATTRIBUTES.items()}
    )
  parameters = [*encoder.parameters(), *heads.parameters()]
  optimizer = torch.optim.AdamW(parameters, lr=PEAK_LR, weight_decay=0.01)
  schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, steps)
  last_losses = {name: [] for name in world.ATTRIBUTES}
  for step in range(steps):
    random = world.generator(seed, 1, step)
    scenes = [world.draw(random, 0.5) for _ in range(BATCH)]
    plain = (captions.write(scene, random) for scene in scenes)
    texts = [captions.with_unknown_words(caption, random) for caption in plain]
    pooled = encoder(ids(tokenizer, texts, length))[0].mean(1)
    total = torch.zeros(())
    for name, values in world.ATTRIBUTES.items():
      shown = [s.attributes().get(name) for s in scenes]
      wanted = torch.tensor([values.index(v) if v else _ABSENT for v in shown])
      loss = torch.nn.functional.cross_entropy(
        heads[name](pooled), wanted, ignore_index=_ABSENT
      )
      total = total + loss
      if step >= min(0.9 * steps, steps - 1):
        last_losses[name].append(loss.item())
    optimizer.zero_grad()
    total.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    schedule.step()
  return {name: sum(losses) / len(losses) for name, losses in last_losses.items()}
