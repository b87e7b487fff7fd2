"""Models and rows by their sizes alone: nothing to download."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from etils import epath

from vpo_jax import errors
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config

# config.json of the models of these names.
MODELS = {
  "llama3-8b": {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
  },
  "smollm2-135m": {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
  },
}


def read(name: str) -> decoder_config.DecoderConfig:
  """A model by its name here, by its directory, or by its config.json.

  Raises:
    UserError: none of them.
  """
  if name in MODELS:
    return decoder_config.parse(MODELS[name])
  path = epath.Path(name)
  if path.name == "config.json":
    path = path.parent
  if not path.exists():
    raise errors.UserError(
      f"--model_config={name}: no such directory; or one of {', '.join(MODELS)}"
    )
  return decoder_config.read(path)


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Tokens of a row; queries and responses lie evenly around their mean.

  The defaults are the instruction template, VidProM's queries and the release's
  prompts under Llama-3's tokenizer, about.
  """

  stem: int = 190
  query: int = 20
  response: int = 130
  spread: float = 0.5  # lengths reach from (1 - spread) to (1 + spread) of the mean


def rows(
  lengths: Lengths, responses: int, count: int
) -> Sequence[data_examples.Example]:
  """`count` examples of these lengths; the same ones each time."""
  rng = np.random.default_rng(0)
  stem = np.zeros(lengths.stem, np.int32)

  def some(mean: int) -> np.ndarray:
    low, high = (round(mean * (1 + sign * lengths.spread)) for sign in (-1, 1))
    return rng.integers(1, 1000, max(1, int(rng.integers(low, high + 1))), np.int32)

  made = []
  for index in range(count):
    query = some(lengths.query)
    query[0] = 1 + index % 2  # or the stem would reach into it
    prompt = np.concatenate([stem, query])
    answers = tuple(some(lengths.response) for _ in range(responses))
    made.append(data_examples.Example(str(index), prompt, answers))
  return made
