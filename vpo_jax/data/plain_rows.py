"""Plain rows: each response in a causal row of its own, after its whole prompt.

This is what a trainer without prefix sharing computes. `train.packing_check` compares
the packed forest with it.

Shape letters besides the package's: C chunks of a group, B rows of a chunk, W tokens of
a row, S tokens of the longest response.
"""

from collections.abc import Sequence
from typing import Any

import flax.struct
import numpy as np

from vpo_jax.data import examples as data_examples
from vpo_jax.data import forest


@flax.struct.dataclass
class PlainRows:
  """The responses of a micro-batch (int32 arrays, with their shapes in their names).

  Attributes:
    tokens_GCBW: token ids of prompt and response, without the response's last token.
    first_GCB: index of the token that predicts the response's first token.
    target_GCBS: tokens of the response; 0 after its end.
    where_GP: where each of the forest's P predicted tokens is among the C * B * S
      targets of its group; 0 for padding.
  """

  tokens_GCBW: Any
  first_GCB: Any
  target_GCBS: Any
  where_GP: Any


def build(
  examples: Sequence[data_examples.Example],
  shape: forest.Shape,
  micro: forest.Micro,
  groups: Sequence[int],
) -> PlainRows:
  """The plain rows of a micro-batch of the packed forest.

  A chunk has at most as many tokens as a group of the forest, or one row, so that it
  needs no more memory.

  Args:
    examples: of the whole run.
    shape: of the micro-batch.
    micro: indices of the examples in each row of each group.
    groups: indices of the groups to build.
  """
  members = [[i for indices in rows for i in indices] for rows in micro]
  used = {i for indices in members for i in indices}
  responses = [r for i in used for r in examples[i].responses]
  longest = max(map(len, responses))
  width = max(
    len(examples[i].prompt) + len(r) - 1 for i in used for r in examples[i].responses
  )
  most = max(sum(len(examples[i].responses) for i in indices) for indices in members)
  rows = min(most, max(1, (shape.stem + shape.rows * shape.row) // width))
  chunks = -(-most // rows)
  G = len(groups)
  plain = PlainRows(
    tokens_GCBW=np.zeros((G, chunks, rows, width), np.int32),
    first_GCB=np.zeros((G, chunks, rows), np.int32),
    target_GCBS=np.zeros((G, chunks, rows, longest), np.int32),
    where_GP=np.zeros((G, shape.predict), np.int32),
  )
  for group, trees in enumerate(micro[g] for g in groups):
    for number, (index, branch, span) in enumerate(forest.predicted(examples, trees)):
      prompt = examples[index].prompt
      response = examples[index].responses[branch]
      tokens = np.concatenate([prompt, response[:-1]])
      place = group, *divmod(number, rows)
      plain.tokens_GCBW[place][: len(tokens)] = tokens
      plain.first_GCB[place] = len(prompt) - 1
      plain.target_GCBS[place][: len(response)] = response
      start = number * longest
      plain.where_GP[group, span] = np.arange(start, start + len(response))
  return plain
