"""Pairs of encoded videos, their order, and the noise that they get.

The order and the noise are functions of the seed, the step and the pair, so a run does
not depend on interruptions or on the number of processes.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import torch

from torch_bridge import contract
from torch_bridge.diffusion import encoder, families, tensors
from torch_bridge.renderers import base


@dataclasses.dataclass(frozen=True)
class Batch:
  """P pairs with their noise; rows 2p and 2p + 1 are the chosen and rejected video.

  Attributes:
    latents: [2P, ...], in float32.
    noise: [2P, ...]; the same for both videos of a pair.
    uniform: [2P], the noise levels (`noising.Noising`); also the same for both.
    text: inputs of the transformer by name, each [2P, ...].
  """

  latents: torch.Tensor
  noise: torch.Tensor
  uniform: torch.Tensor
  text: families.Text

  def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
    """The batch on a device, with the text's floats in the transformer's dtype."""
    text = {
      name: value.to(device, dtype if value.is_floating_point() else value.dtype)
      for name, value in self.text.items()
    }
    return Batch(
      self.latents.to(device), self.noise.to(device), self.uniform.to(device), text
    )


class Source:
  """Reads the pairs' tensors from a store."""

  def __init__(self, store: contract.Store):
    self._store = store

  def latents(self, request_id: str) -> torch.Tensor:
    return tensors.read(self._store.encoded(request_id))[encoder.LATENTS]

  def text(self, request_id: str) -> families.Text:
    return tensors.read(self._store.encoded(request_id))


def read_pairs(path: pathlib.Path) -> list[contract.EncodedPair]:
  """The pairs of a file.

  Raises:
    ModelError: it has none, or a line is not a pair.
  """
  pairs = []
  for row in contract.read_rows(path, contract.EncodedPair):
    if isinstance(row, contract.Failure):
      raise base.ModelError(f"{path.parent}: {row.reason}")
    pairs.append(row)
  if not pairs:
    raise base.ModelError(f"{path}: no pairs")
  return pairs


def indices(count: int, batch_size: int, step: int, seed: int) -> list[int]:
  """Which of `count` pairs are in the batch of a step.

  The pairs are shuffled anew in every epoch; a batch may span two epochs.
  """
  found = []
  for place in range(step * batch_size, (step + 1) * batch_size):
    epoch, rest = divmod(place, count)
    order = torch.randperm(count, generator=_generator("order", seed, epoch))
    found.append(int(order[rest]))
  return found


def batch(
  source: Source, pairs: Sequence[contract.EncodedPair], seed: int, step: int | str
) -> Batch:
  """The pairs' tensors, and the noise that the step gives them."""
  latents, noise, uniform, texts = [], [], [], []
  for pair in pairs:
    found = source.latents(pair.chosen), source.latents(pair.rejected)
    numbers = _generator("noise", seed, step, pair.id)
    level = torch.rand((), generator=numbers)
    drawn = torch.randn(found[0].shape, generator=numbers)
    text = source.text(pair.prompt)
    for one in found:
      latents.append(one)
      noise.append(drawn)
      uniform.append(level)
      texts.append(text)
  return Batch(
    torch.stack(latents),
    torch.stack(noise),
    torch.stack(uniform),
    {name: torch.stack([text[name] for text in texts]) for name in texts[0]},
  )


def _generator(*parts: int | str) -> torch.Generator:
  # A hash, since the first numbers of neighbouring seeds are similar.
  seed = int(contract.content_id(*parts), 16) >> 1
  return torch.Generator().manual_seed(seed)
