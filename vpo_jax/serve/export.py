"""Stage export: the trained model as a directory that other programs load."""

import importlib.util
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

# Of the tensors, by format.
DTYPES = {
  "huggingface": ("float32", "bfloat16", "float16"),
  "gguf": ("float32", "float16", "q8_0"),
}


def run(work: stages.Work) -> stages.Counts:
  """Exports a model to `<workdir>/vpo`, or as `folder` says.

  Raises:
    UserError: there is no model or adapter, it is incomplete or has no place in the
      format, the format is not one of `DTYPES`, or it does not have the dtype.
  """
  config = work.config
  _check(config)
  figures = card.figures(work.workdir)
  if config.format == "gguf":
    from vpo_jax.serve.gguf import export as gguf_export

    return gguf_export.export(work.folder, work.inputs["model"], config, figures)
  write = adapter if config.adapter else export
  return write(work.folder, work.inputs["model"], config, figures)


def _check(config: stages.Config) -> None:
  if config.format not in DTYPES:
    raise errors.UserError(
      f"config.format={config.format!r}: must be one of {', '.join(DTYPES)}"
    )
  if config.dtype not in DTYPES[config.format]:
    raise errors.UserError(
      f"config.dtype={config.dtype!r}: for config.format={config.format} it must be one"
      f" of {', '.join(DTYPES[config.format])}"
    )
  if config.format == "huggingface":
    return
  if config.adapter:
    raise errors.UserError(
      "config.adapter=True: a GGUF file has the merged model; set config.adapter=False"
    )
  if importlib.util.find_spec("gguf") is None:
    raise errors.UserError("config.format=gguf needs a package: pip install gguf")


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


def folder(config: stages.Config) -> str:
  """The folder in the workdir, which depends on what is exported."""
  if config.format == "gguf":
    return "vpo_gguf"
  return "vpo_adapter" if config.adapter else "vpo"


STAGE = stages.Stage(
  name="export",
  run=run,
  inputs=_inputs,
  execution_keys=("format",),  # the folder depends on it
  folder=folder,
  uses_jax=True,
)
