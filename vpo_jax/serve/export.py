"""The trained optimizer as a directory that other programs load."""

import json
import math
from typing import Any

import jax
import ml_collections
from etils import epath

from vpo_jax import errors, files, stage, templates
from vpo_jax.data import chat
from vpo_jax.llama import config as llama_config
from vpo_jax.llama import directory, source, table, weights
from vpo_jax.serve import card

DTYPES = ("float32", "bfloat16", "float16")


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
  """Exports a model to `<workdir>/vpo`.

  Raises:
    UserError: no model, an incomplete one, or a dtype that is none of `DTYPES`.
  """
  if config.dtype not in DTYPES:
    raise errors.UserError(f"dtype {config.dtype!r}: wants {', '.join(DTYPES)}")
  workdir = epath.Path(workdir)
  trained = workdir / "train_dpo" / "model"
  model = source.resolve(config.model) if config.model else trained
  work = stage.begin("vpo", config, workdir, {"model": model})
  if work.counts is not None:
    return work.counts
  size = export(work.folder, model, config, card.figures(workdir))
  return work.finish(size)


def export(
  folder: epath.PathLike,
  model: epath.Path,
  config: ml_collections.ConfigDict,
  figures: card.Figures,
) -> dict[str, Any]:
  """Writes `model` to `folder` with all that its use needs; returns its size.

  Args:
    config: see configs/export.py.
    figures: of the run, for the model card.
  """
  llama = llama_config.read(model)
  tokenizer = chat.load_tokenizer(model)
  own = model / directory.INSTRUCTION
  path = config.instruction or (own if own.exists() else "")
  instruction = templates.load("instruction", path)
  extra = {
    directory.INSTRUCTION: instruction,
    "generation_config.json": _json(_generation(model, tokenizer, config)),
    "README.md": card.card(figures, instruction, config.dtype),
  }
  # On the host: an export needs no accelerator, nor one that could hold the model.
  with jax.default_device(jax.local_devices(backend="cpu")[0]):
    params = weights.load(model, llama)
    directory.save_model(
      folder,
      params,
      llama,
      model,
      config.dtype,
      extra={name: text.encode() for name, text in extra.items()},
    )
  shapes = jax.tree.leaves(table.table(llama))
  parameters = sum(math.prod(weight.shape) for weight in shapes)
  return {"parameters": parameters, "dtype": config.dtype}


def _generation(
  model: epath.Path, tokenizer: chat.Tokenizer, config: ml_collections.ConfigDict
) -> dict[str, Any]:
  """The base's generation config (it may name several end tokens), and our settings."""
  path = model / "generation_config.json"
  base = files.read_json(path) if path.exists() else {}
  base.setdefault("eos_token_id", tokenizer.eos_token_id)
  return base | {
    "do_sample": True,
    "temperature": config.temperature,
    "top_p": config.top_p,
    "max_new_tokens": config.max_new_tokens,
  }


def _json(value: Any) -> str:
  return json.dumps(value, indent=2) + "\n"
