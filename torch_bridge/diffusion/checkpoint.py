"""Checkpoints: trained weights, optimizer and step in one file.

The order of the pairs and their noise are functions of the step (`data`), so no state
of a sampler or of a random number generator is needed.
"""

from __future__ import annotations

import pathlib
from typing import Any

import torch
from torch.distributed.checkpoint import state_dict as states

from torch_bridge import contract

_FORMAT = "{:07d}.pt"
# Whole tensors on the CPU of process 0, also of a sharded model; no frozen weights.
_OPTIONS = states.StateDictOptions(
  full_state_dict=True, cpu_offload=True, ignore_frozen_params=True
)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
  """The trained parameters by name; complete in process 0. All processes call it."""
  found: Any = states.get_model_state_dict(module, options=_OPTIONS)
  return found


def state(
  module: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> dict[str, Any]:
  """What `save` writes; all processes call it."""
  model, optimizing = states.get_state_dict(module, optimizer, options=_OPTIONS)
  return {"model": model, "optimizer": optimizing, "step": step}


def save(folder: pathlib.Path, state: dict[str, Any], keep: int) -> None:
  """Publishes a checkpoint and removes all but the newest."""
  with contract.publish(folder / _FORMAT.format(state["step"])) as file:
    torch.save(state, file)
  for old in steps(folder)[:-keep]:
    path(folder, old).unlink()


def restore(
  folder: pathlib.Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> int:
  """Loads the newest checkpoint; returns its step, 0 if there is none."""
  found = steps(folder)
  if not found:
    return 0
  # Mapped: with full fine-tuning the file is larger than the model.
  loaded = torch.load(path(folder, found[-1]), weights_only=True, mmap=True)
  states.set_state_dict(
    module,
    optimizer,
    model_state_dict=loaded["model"],
    optim_state_dict=loaded["optimizer"],
    options=states.StateDictOptions(
      full_state_dict=True, cpu_offload=True, strict=False
    ),
  )
  return loaded["step"]


def steps(folder: pathlib.Path) -> list[int]:
  """The steps of the checkpoints, in order."""
  return sorted(int(one.stem) for one in folder.glob("[0-9]*.pt"))


def path(folder: pathlib.Path, step: int) -> pathlib.Path:
  return folder / _FORMAT.format(step)
