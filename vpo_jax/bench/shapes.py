"""Models with the sizes of known ones and random weights, so nothing is downloaded.

    python -m vpo_jax.bench.shapes llama3-8b FOLDER

writes one, for several benchmarks: 2 bytes a weight on disk, 4 in memory while it runs.
"""

import json
import sys

import jax
from etils import epath

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import directory, known, source, table, weights

# "tiny" has SmolLM2's vocabulary and is for tests of the benchmarks themselves.
MODELS = known.MODELS | {
  "tiny": known.MODELS["smollm2-135m"]
  | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
  }
}


def resolve(model: str, folder: epath.Path) -> epath.Path:
  """The directory of `model`; a name in `MODELS` is first written to `folder`.

  It gets the embedded default's tokenizer, whose ids are valid in these vocabularies.
  """
  if model not in MODELS:
    return source.resolve(model)
  with jax.default_device(jax.local_devices(backend="cpu")[0]):
    return write(MODELS[model], folder)


def write(hf: dict, folder: epath.Path) -> epath.Path:
  """Writes a model directory with random weights for the config.json `hf`.

  The weights are made on JAX's default device; config.json is written last.
  """
  config = decoder_config.parse(hf)
  folder.mkdir(parents=True, exist_ok=True)
  weights.save(folder, table.init(jax.random.key(0), config), config, "bfloat16")
  for name in directory.COMPANIONS:
    file = source.resolve(source.SMOLLM2) / name
    if file.exists():
      (folder / name).write_bytes(file.read_bytes())
  (folder / directory.CONFIG).write_text(json.dumps(hf))
  return folder


def main(name: str, folder: str) -> None:
  if name not in MODELS:
    sys.exit(f"error: model {name!r}: must be one of {', '.join(MODELS)}")
  write(MODELS[name], epath.Path(folder))


if __name__ == "__main__":
  main(*sys.argv[1:])
