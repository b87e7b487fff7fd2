"""Training rows for benchmarks: real queries, responses of random words."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from vpo_jax import errors, templates
from vpo_jax.data import examples as data_examples

WORDS = 70, 110  # least and most words of a response


def make(
  kind: Literal["sft", "dpo"], queries: Sequence[str], count: int, seed: int = 0
) -> list[dict[str, Any]]:
  """Makes `count` rows in the chat format of SFT or preference data.

  Args:
    queries: one per row, filled into the instruction template; responses are drawn from
      all their words, duplicates included.

  Raises:
    UserError: fewer queries than rows.
  """
  make_row, responses = {
    "sft": (data_examples.sft_row, 1),
    "dpo": (data_examples.preference_row, 2),
  }[kind]
  return [
    make_row(content, *answers)
    for content, answers in groups(queries, count, responses, seed)
  ]


def groups(
  queries: Sequence[str], count: int, responses: int, seed: int = 0
) -> list[tuple[str, list[str]]]:
  """Makes `count` user turns, each with this many responses.

  Args and raises: as `make`.
  """
  if len(queries) < count:
    raise errors.UserError(
      f"the run needs {count} queries, the file has {len(queries)}"
    )
  rng = np.random.default_rng(seed)
  words = np.array(" ".join(queries).split())
  instruction = templates.load("instruction")

  def response() -> str:
    return " ".join(rng.choice(words, rng.integers(WORDS[0], WORDS[1] + 1)))

  return [
    (
      templates.fill(instruction, query=query),
      [response() for _ in range(responses)],
    )
    for query in queries[:count]
  ]
