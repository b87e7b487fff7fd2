"""Encoded videos and prompts on disk, by content."""

from __future__ import annotations

import pathlib

import safetensors
import safetensors.torch
import torch

from torch_bridge import contract


def write(path: pathlib.Path, tensors: dict[str, torch.Tensor]) -> None:
  """Publishes tensors as one file."""
  content = safetensors.torch.save(
    {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
  )
  with contract.publish(path) as file:
    file.write(content)


def read(path: pathlib.Path) -> dict[str, torch.Tensor]:
  return safetensors.torch.load_file(path)


def is_intact(path: pathlib.Path) -> bool:
  """Whether a file is there in its full length."""
  try:
    with safetensors.safe_open(path, framework="pt"):
      return True
  except (OSError, safetensors.SafetensorError):
    return False
