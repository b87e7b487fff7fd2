"""Stage export: the trained model as a directory that other programs load."""

import json
import math
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
import safetensors.flax
from etils import epath

from vpo_jax import errors, json_input, stages, templates
from vpo_jax.data import chat
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import directory, lora, source, table, weights
from vpo_jax.serve import card

DTYPES = ("float32", "bfloat16", "float16")


def run(work: stages.Work) -> stages.Counts:
  """Exports a model to `<workdir>/vpo`, or an adapter to `<workdir>/vpo_adapter`.

  Raises:
    UserError: there is no model or adapter, it is incomplete, or the dtype is not one
      of `DTYPES`.
  """
  if work.config.dtype not in DTYPES:
    raise errors.UserError(
      f"config.dtype={work.config.dtype!r}: must be one of {', '.join(DTYPES)}"
    )
  write = adapter if work.config.adapter else export
  return write(
    work.folder, work.inputs["model"], work.config, card.figures(work.workdir)
  )


def export(
  folder: epath.PathLike,
  model: epath.Path,
  config: ml_collections.ConfigDict,
  figures: card.Figures,
) -> dict[str, Any]:
  """Writes `model` with the files that using it requires; returns its size.

  Args:
    config: see configs/export.py.
    figures: the run's figures, for the model card.
  """
  architecture = decoder_config.read(model)
  stops = chat.load(model, architecture.vocab).stops
  instruction = templates.of_model(model, config.instruction)
  extra = {
    directory.INSTRUCTION: instruction,
    "generation_config.json": _json(_generation(model, stops, config)),
    "README.md": card.card(figures, instruction, config.dtype, note=config.note),
  }
  if config.note:
    extra[card.NOTE] = config.note + "\n"
  directory.convert_model(
    folder,
    architecture,
    model,
    config.dtype,
    extra={name: text.encode() for name, text in extra.items()},
  )
  shapes = jax.tree.leaves(table.table(architecture))
  parameters = sum(math.prod(weight.shape) for weight in shapes)
  return {"parameters": parameters, "dtype": config.dtype}


def adapter(
  folder: epath.Path,
  model: epath.Path,
  config: ml_collections.ConfigDict,
  figures: card.Figures,
) -> dict[str, Any]:
  """Writes the adapter alone; `model` is the merged model in the same run.

  Args:
    config: see configs/export.py.
    figures: the run's figures, for the model card.
  """
  trained = model.parent / "adapter"
  if not (trained / lora.CONFIG).exists():
    raise errors.UserError(
      f"{trained}: no {lora.CONFIG}; only a model trained with lora.rank has an adapter"
    )
  peft = json_input.value(trained / lora.CONFIG)
  base = config.base or peft["base_model_name_or_path"]
  instruction = templates.of_model(model, config.instruction)
  with jax.default_device(jax.local_devices(backend="cpu")[0]):
    tensors = safetensors.flax.load((trained / lora.WEIGHTS).read_bytes())
    tensors = {name: np.asarray(t.astype(config.dtype)) for name, t in tensors.items()}
  text = card.card(
    figures, instruction, config.dtype, adapter_of=base, note=config.note
  )
  content = directory.companions(model) | {
    lora.WEIGHTS: weights.encode(tensors),
    directory.INSTRUCTION: instruction.encode(),
    "README.md": text.encode(),
    lora.CONFIG: _json(peft | {"base_model_name_or_path": base}).encode(),
  }
  for name, data in content.items():
    directory.publish(folder / name, data)
  size = sum(tensor.size for tensor in tensors.values())
  return {"parameters": size, "dtype": config.dtype, "base": base}


def _generation(
  model: epath.Path, stops: Sequence[int], config: ml_collections.ConfigDict
) -> dict[str, Any]:
  """The base model's generation config, including its end tokens, with our settings."""
  path = model / "generation_config.json"
  base = json_input.value(path) if path.exists() else {}
  return base | {
    "eos_token_id": list(stops) if len(stops) > 1 else stops[0],
    "do_sample": True,
    "temperature": config.temperature,
    "top_p": config.top_p,
    "max_new_tokens": config.max_new_tokens,
  }


def _json(value: Any) -> str:
  return json.dumps(value, indent=2) + "\n"


def _inputs(config: stages.Config) -> stages.Inputs:
  return (stages.Input("model", f"{config.trained}/model", resolve=source.resolve),)


STAGE = stages.Stage(
  name="export",
  run=run,
  inputs=_inputs,
  folder=lambda config: "vpo_adapter" if config.adapter else "vpo",
  uses_jax=True,
)
