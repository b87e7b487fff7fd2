"""Near-duplicates by MinHash LSH (the `rensa` library), found before diversity."""

from collections.abc import Iterable

import ml_collections
import numpy as np
import rensa
from jaxtyping import Bool

# Shingles of five characters: a misspelling changes few, a word in another order some.
_SHINGLE = 5


def duplicates(
  keys: Iterable[str], config: ml_collections.ConfigDict
) -> Bool[np.ndarray, " N"]:
  """Which texts are nearly equal to an earlier one that stays.

  Args:
    keys: normalised texts; of two near-duplicates the first stays.
    config: `threshold`, the Jaccard similarity of the sets of shingles, as MinHash
      estimates it, from which a text is dropped; `permutations`, MinHash's size.
  """
  index = rensa.RMinHashDeduplicator(  # pyright: ignore[reportAttributeAccessIssue]
    threshold=config.threshold, num_perm=config.permutations, use_lsh=True
  )
  new = index.add_pairs((str(n), shingles(key)) for n, key in enumerate(keys))
  return ~np.array(new, dtype=bool)


def shingles(key: str) -> list[str]:
  """All runs of five characters; the whole of a shorter text."""
  return [key[n : n + _SHINGLE] for n in range(max(len(key) - _SHINGLE + 1, 1))]
