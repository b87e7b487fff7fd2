"""Models by name, and training examples by their lengths; nothing is downloaded."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from etils import epath

from vpo_jax import errors
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import known


def read(name: str) -> decoder_config.DecoderConfig:
  """A model's config from a name in `known.MODELS`, a directory, or a config.json.

  Raises:
    UserError: `name` is none of these.
  """
  if name in known.MODELS:
    return decoder_config.parse(known.MODELS[name])
  path = epath.Path(name)
  if path.name == "config.json":
    path = path.parent
  if not path.exists():
    raise errors.UserError(
      f"--model_config={name}: no such directory, and not one of"
      f" {', '.join(known.MODELS)}"
    )
  return decoder_config.read(path)


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Tokens of an example.

  The defaults approximate the instruction template, VidProM's queries and the release's
  prompts under Llama-3's tokenizer.

  Attributes:
    stem: of the instruction.
    query: mean of a query.
    response: mean of a response.
    candidates: responses of an example of train_groups; SFT has 1 and DPO 2.
    spread: lengths are uniform between (1 - spread) and (1 + spread) times the mean.
  """

  stem: int = 190
  query: int = 20
  response: int = 130
  candidates: int = 4
  spread: float = 0.5


def examples(
  lengths: Lengths, responses: int, count: int
) -> Sequence[data_examples.Example]:
  """Random examples of these lengths, the same on each call.

  Args:
    responses: per example.
    count: number of examples.
  """
  rng = np.random.default_rng(0)
  stem = np.zeros(lengths.stem, np.int32)

  def tokens(mean: int) -> np.ndarray:
    low, high = (round(mean * (1 + sign * lengths.spread)) for sign in (-1, 1))
    return rng.integers(1, 1000, max(1, int(rng.integers(low, high + 1))), np.int32)

  rows = []
  for index in range(count):
    query = tokens(lengths.query)
    query[0] = 1 + index % 2  # so that the common stem ends before the query
    prompt = np.concatenate([stem, query])
    drawn = tuple(tokens(lengths.response) for _ in range(responses))
    rows.append(data_examples.Example(str(index), prompt, drawn))
  return rows
