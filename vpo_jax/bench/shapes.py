"""Models with the sizes of known ones and random weights, so nothing is downloaded."""

import json

import jax
from etils import epath

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import directory, known, source, table, weights


def resolve(model: str, folder: epath.Path) -> epath.Path:
  """The directory of `model`; a name in `known.MODELS` is first written to `folder`.

  It gets the embedded default's tokenizer, whose ids are valid in these vocabularies.
  """
  if model not in known.MODELS:
    return source.resolve(model)
  return write(known.MODELS[model], folder)


def write(hf: dict, folder: epath.Path) -> epath.Path:
  """Writes a model directory with random weights for the config.json `hf`."""
  config = decoder_config.parse(hf)
  folder.mkdir(parents=True, exist_ok=True)
  with jax.default_device(jax.local_devices(backend="cpu")[0]):
    weights.save(folder, table.init(jax.random.key(0), config), config, "bfloat16")
  for name in directory.COMPANIONS:
    file = source.resolve(source.SMOLLM2) / name
    if file.exists():
      (folder / name).write_bytes(file.read_bytes())
  (folder / directory.CONFIG).write_text(json.dumps(hf))
  return folder
