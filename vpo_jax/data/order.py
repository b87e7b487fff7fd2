"""The order of examples, a function of (seed, epoch) alone."""

import numpy as np


def batches(
  examples: int, batch_size: int, epochs: int, seed: int, shuffle: bool
) -> list[list[int]]:
  """Example indices of each step; the last batch of an epoch may be smaller."""
  steps = []
  for epoch in range(epochs):
    order = np.arange(examples)
    if shuffle:
      order = np.random.default_rng((seed, epoch)).permutation(examples)
    steps += [
      order[start : start + batch_size].tolist()
      for start in range(0, examples, batch_size)
    ]
  return steps
