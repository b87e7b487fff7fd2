"""Plans a step, and looks for the smallest change that makes it fit."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import ml_collections

from vpo_jax import errors
from vpo_jax.decoder import config as decoder_config
from vpo_jax.plan import chips, compiles, models, predict, worker
from vpo_jax.runtime import console

REMATS = ("none", "cheap", "full")
LEAST_TOKENS = 512  # of a micro-batch: two long prompts

Find = Callable[[compiles.Request], dict[str, Any]]


def plan(
  stage: str,
  config: ml_collections.ConfigDict,
  model: decoder_config.DecoderConfig,
  lengths: models.Lengths,
  machine: chips.Machine,
  find: Find = compiles.find,
) -> predict.Prediction:
  """What one step of `config` needs and takes on `machine`."""
  topology = machine.topology or worker.HOST
  request = compiles.Request(stage, config, model, lengths, topology, machine.devices)
  return predict.predict(machine, find(request))


def changes(
  stage: str, config: ml_collections.ConfigDict, devices: int
) -> Iterator[dict[str, Any]]:
  """Config values to try, least first, each set beside those before it.

  Less kept for the backward pass costs arithmetic; smaller micro-batches cost passes
  over the weights; splitting matrices costs transfers in each layer.
  """
  made: dict[str, Any] = {}
  if stage == "sample":
    slots = config.slots
    while slots > devices:
      slots //= 2
      yield {"slots": slots}
    made["slots"] = slots
  else:
    for remat in REMATS[REMATS.index(config.remat) + 1 :]:
      made["remat"] = remat
      yield dict(made)
    tokens = config.micro_tokens
    while tokens > LEAST_TOKENS:
      tokens //= 2
      made["micro_tokens"] = tokens
      yield dict(made)
  tensor = 2 * max(1, config.mesh.tensor)
  while tensor <= min(8, devices):
    yield made | {"mesh.tensor": tensor}
    tensor *= 2


def changed(
  config: ml_collections.ConfigDict, change: dict[str, Any]
) -> ml_collections.ConfigDict:
  made = copy.deepcopy(config)
  made.update_from_flattened_dict(change)
  return made


def search(
  stage: str,
  config: ml_collections.ConfigDict,
  model: decoder_config.DecoderConfig,
  lengths: models.Lengths,
  machine: chips.Machine,
  find: Find = compiles.find,
) -> tuple[dict[str, Any], predict.Prediction] | None:
  """The first of `changes` that fits, by trying; None if none does."""
  for change in changes(stage, config, machine.devices):
    shown = " ".join(f"--config.{k}={v}" for k, v in change.items())
    try:
      found = plan(stage, changed(config, change), model, lengths, machine, find)
    except errors.UserError as error:
      console.say(f"  {shown}: {error}")
      continue
    peak, capacity = found.memory["peak"], found.capacity
    console.say(f"  {shown}: {peak / chips.GIB:.1f} of {capacity / chips.GIB:.1f} GiB")
    if found.fits:
      return change, found
  return None
