"""Models with the sizes of known ones and random weights, so nothing is downloaded."""

import json

import jax
from etils import epath

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import directory, source, table, weights

_LLAMA_32 = {
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "vocab_size": 128256,
  "intermediate_size": 8192,
  "num_key_value_heads": 8,
  "max_position_embeddings": 131072,
  "rms_norm_eps": 1e-5,
  "tie_word_embeddings": True,
  "rope_theta": 500000.0,
  "rope_scaling": {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
  },
}

# config.json by model name.
SHAPES = {
  "llama-3.2-1b": {
    **_LLAMA_32,
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "head_dim": 64,
  },
  "llama-3.2-3b": {
    **_LLAMA_32,
    "hidden_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "head_dim": 128,
  },
}


def resolve(model: str, folder: epath.Path) -> epath.Path:
  """The directory of `model`; a name in `SHAPES` is first written to `folder`.

  It gets the embedded default's tokenizer, whose ids are valid in these vocabularies.
  """
  if model not in SHAPES:
    return source.resolve(model)
  return write(SHAPES[model], folder)


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
