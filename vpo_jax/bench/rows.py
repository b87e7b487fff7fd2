"""Training rows for measurements: real queries, answers of random words."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from vpo_jax import errors, templates
from vpo_jax.data import examples as data_examples

WORDS = 70, 110  # words of a response, both included


def make(
  kind: Literal["sft", "dpo"], queries: Sequence[str], count: int, seed: int = 0
) -> list[dict[str, Any]]:
  """`count` rows in the ecosystem's JSON.

  Args:
    queries: put into the instruction template in their order; their words, as often as
      they stand there, are what responses are drawn from.

  Raises:
    UserError: fewer queries than rows.
  """
  if len(queries) < count:
    raise errors.UserError(
      f"the run wants {count} queries, the file has {len(queries)}"
    )
  rng = np.random.default_rng(seed)
  words = np.array(" ".join(queries).split())
  instruction = templates.load("instruction")

  def response() -> str:
    return " ".join(rng.choice(words, rng.integers(WORDS[0], WORDS[1] + 1)))

  make_row, responses = {
    "sft": (data_examples.sft_row, 1),
    "dpo": (data_examples.preference_row, 2),
  }[kind]
  fill = functools.partial(templates.fill, instruction)
  return [
    make_row(fill(query=query), *[response() for _ in range(responses)])
    for query in queries[:count]
  ]
