"""Near-duplicates by MinHash LSH (the `rensa` library)."""

from collections.abc import Iterable, Iterator
from typing import Any

import ml_collections
import numpy as np
import rensa
from jaxtyping import Bool

# Characters per shingle: a misspelling changes few shingles, a reordering some.
_SHINGLE = 5


def find(
  keys: Iterable[str], config: ml_collections.ConfigDict
) -> Bool[np.ndarray, " N"]:
  """Returns a mask of the texts that are near-duplicates of an earlier text.

  The first text of a group of near-duplicates is kept and not in the mask.

  Args:
    keys: normalized texts.
    config: `threshold`: texts are near-duplicates if the Jaccard similarity of their
      shingles, as estimated by MinHash, is at least this; `permutations`: the size of a
      MinHash.
  """
  new = _index(config).add_pairs(_numbered(keys))
  return ~np.array(new, dtype=bool)


def of_others(
  keys: Iterable[str], others: Iterable[str], config: ml_collections.ConfigDict
) -> Bool[np.ndarray, " N"]:
  """Returns a mask of the texts that are near-duplicates of one of `others`."""
  index = _index(config)
  index.add_pairs(_numbered(others))
  return np.array(index.is_duplicate_pairs(_numbered(keys)), dtype=bool)


def _index(config: ml_collections.ConfigDict) -> Any:
  return rensa.RMinHashDeduplicator(  # pyright: ignore[reportAttributeAccessIssue]
    threshold=config.threshold, num_perm=config.permutations, use_lsh=True
  )


def _numbered(keys: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
  return ((str(n), shingles(key)) for n, key in enumerate(keys))


def shingles(key: str) -> list[str]:
  """Returns all substrings of five characters; a shorter text is one shingle."""
  return [key[n : n + _SHINGLE] for n in range(max(len(key) - _SHINGLE + 1, 1))]
