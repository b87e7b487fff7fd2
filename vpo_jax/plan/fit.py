"""Plans a step, and searches for the smallest config change that makes it fit."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import ml_collections

from vpo_jax import errors
from vpo_jax.decoder import config as decoder_config
from vpo_jax.plan import chips, compile_cache, models, predict, worker
from vpo_jax.runtime import console

REMATS = ("none", "cheap", "full")
MIN_MICRO_TOKENS = 512  # two long examples

Compile = Callable[[compile_cache.Request], dict[str, Any]]


def plan(
  stage: str,
  config: ml_collections.ConfigDict,
  model: decoder_config.DecoderConfig,
  lengths: models.Lengths,
  machine: chips.Machine,
  compile_step: Compile = compile_cache.get,
) -> predict.Prediction:
  """Predicts one step of `config` on `machine`.

  Raises:
    UserError: see `compile_cache.get`.
  """
  request = compile_cache.Request(
    stage, config, model, lengths, machine.topology or worker.HOST, machine.devices
  )
  return predict.predict(machine, compile_step(request))


def changes(
  stage: str, config: ml_collections.ConfigDict, devices: int
) -> Iterator[dict[str, Any]]:
  """Yields config changes that save memory, cheapest first and cumulative.

  Rematerialization costs FLOPs; smaller micro-batches read the weights more often;
  tensor parallelism adds transfers in each layer.
  """
  change: dict[str, Any] = {}
  if stage == "sample":
    slots = config.slots
    while slots > devices:
      slots //= 2
      yield {"slots": slots}
    change["slots"] = slots
  else:
    for remat in REMATS[REMATS.index(config.remat) + 1 :]:
      change["remat"] = remat
      yield dict(change)
    tokens = config.micro_tokens
    while tokens > MIN_MICRO_TOKENS:
      tokens //= 2
      change["micro_tokens"] = tokens
      yield dict(change)
  tensor = 2 * max(1, config.mesh.tensor)
  while tensor <= min(8, devices):
    yield change | {"mesh.tensor": tensor}
    tensor *= 2


def changed(
  config: ml_collections.ConfigDict, change: dict[str, Any]
) -> ml_collections.ConfigDict:
  """A copy of `config` with a change applied."""
  new = copy.deepcopy(config)
  new.update_from_flattened_dict(change)
  return new


def search(
  stage: str,
  config: ml_collections.ConfigDict,
  model: decoder_config.DecoderConfig,
  lengths: models.Lengths,
  machine: chips.Machine,
  compile_step: Compile = compile_cache.get,
) -> tuple[dict[str, Any], predict.Prediction] | None:
  """The first of `changes` that fits, and its plan; None if none fits."""
  for change in changes(stage, config, machine.devices):
    as_flags = flags(change)
    try:
      result = plan(
        stage, changed(config, change), model, lengths, machine, compile_step
      )
    except errors.UserError as error:
      console.say(f"  {as_flags}: {error}")
      continue
    peak, capacity = (n / chips.GIB for n in (result.memory["peak"], result.capacity))
    console.say(f"  {as_flags}: {peak:.1f} of {capacity:.1f} GiB")
    if result.fits:
      return change, result
  return None


def flags(change: dict[str, Any]) -> str:
  """A config change as command-line flags."""
  return " ".join(f"--config.{key}={value}" for key, value in change.items())
