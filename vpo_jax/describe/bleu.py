"""Self-BLEU: how like the others each text is (Texygen, arXiv:1802.01886).

A text's self-BLEU is its BLEU with all other texts as references: n-gram orders 1 to 3
weighted equally, smoothing method 1 (Chen and Cherry, 2014: a count of 0 becomes 0.1).
A reference limits how often an n-gram may count, and the largest limit holds. So one
table with the two largest counts of each n-gram, and who holds the largest, stands for
all references at once: the cost grows with the words, not with the pairs of texts.

Texts are lists of words in a polars column; n-grams are compared by 64-bit hashes.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int, Num

ORDER = 3
_EPSILON = 0.1
_CHUNK = 50_000
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no hash is lost

Rows = Int[np.ndarray, " _"]
# While suspects are thinned: a row's n-grams, with its count and the limit that the
# clear texts set; and an n-gram's count in each suspect that is left.
OfRow = dict[int, list[tuple[int, int, int]]]
OfGram = dict[int, dict[int, int]]


@dataclasses.dataclass(frozen=True)
class References:
  """What some texts, the references, allow each n-gram and each length.

  Attributes:
    rows: which rows of the whole set the references are, ascending.
    limits: a frame for each order: `gram`, `most` (its largest count in one text),
      `holder` (that text's row), `next` (its largest count in any other).
    lengths: how many references have each length, in words.
  """

  rows: Rows
  limits: list[pl.DataFrame]
  lengths: collections.Counter[int]


def references(
  texts: pl.Series, rows: Rows, only: Iterable[pl.DataFrame] | None = None
) -> References:
  """Makes references of some rows of `texts` (the whole set).

  Args:
    only: for each order, the n-grams (column `gram`) whose limits are wanted; all when
      it is None.
  """
  rows = np.sort(rows)
  wanted = list(only) if only is not None else [None] * ORDER
  lengths: collections.Counter[int] = collections.Counter()
  tops: list[list[pl.DataFrame]] = [[] for _ in range(ORDER)]
  for part in _chunks(rows):
    chosen = texts.gather(part)
    lengths.update(chosen.list.len().to_list())
    for top, few, grams in zip(tops, wanted, _grams(chosen, part), strict=True):
      if few is not None:
        grams = grams.join(few, on="gram", how="semi")
      top.append(_two(grams))
  limits = [
    _two(pl.concat(top))
    .group_by("gram", maintain_order=True)
    .agg(
      most=pl.col("count").first(),
      holder=pl.col("row").first(),
      next=pl.col("count").slice(1, 1).sum(),
    )
    for top in tops
  ]
  return References(rows, limits, lengths)


def bleu(texts: pl.Series, rows: Rows, refs: References) -> Float[np.ndarray, " N"]:
  """BLEU of some rows of `texts`, in [0, 1]; a row is never its own reference.

  A row without a word, or without any reference, has 0.
  """
  parts = [_bleu(texts.gather(part), part, refs) for part in _chunks(rows)]
  return np.concatenate(parts)


def self_bleu(texts: pl.Series, sample: int) -> Float[np.ndarray, " N"]:
  """Self-BLEU of each of `texts`, against the first `sample` of them.

  With `sample` at least the number of texts it is Texygen's figure exactly. With fewer
  it is a lower figure (fewer references can match), comparable between sets of any
  size; the order of the texts should then say nothing about them.
  """
  rows = np.arange(len(texts))
  return bleu(texts, rows, references(texts, rows[:sample]))


def exactly(texts: pl.Series, rows: Rows) -> Float[np.ndarray, " N"]:
  """Self-BLEU of some rows, against all other texts however many they are.

  What the sampled form of `self_bleu` misses is measured with this on a few rows: only
  their n-grams are counted in the others.
  """
  few = [grams.select("gram").unique() for grams in _grams(texts.gather(rows), rows)]
  return bleu(texts, rows, references(texts, np.arange(len(texts)), few))


def similar(texts: pl.Series, sample: int, max_bleu: float) -> Bool[np.ndarray, " N"]:
  """Which of `texts` to drop, so that none is too similar to those that stay.

  The first `sample` texts are thinned among themselves, the last first, until none has
  a BLEU above `max_bleu` against the rest of them; then any other text is dropped that
  has one against those that stayed. Exact when `sample` covers all texts.
  """
  rows = np.arange(len(texts))
  drop = np.zeros(len(texts), dtype=bool)
  pool = rows[:sample]
  # When a text goes, another's closest length can change, and its penalty with it.
  while gone := _thin(texts, pool, max_bleu):
    drop[gone] = True
    pool = np.setdiff1d(pool, gone)
  rest = rows[sample:]
  if rest.size:
    drop[rest] = bleu(texts, rest, references(texts, pool)) > max_bleu
  return drop


def _bleu(texts: pl.Series, rows: Rows, refs: References) -> Float[np.ndarray, " N"]:
  lengths = texts.list.len().to_numpy().astype(np.int64)
  hits_ON = np.zeros((ORDER, len(rows)))
  for hits_N, limits, grams in zip(
    hits_ON, refs.limits, _grams(texts, rows), strict=True
  ):
    limit = pl.when(pl.col("holder") == pl.col("row")).then("next").otherwise("most")
    found = (
      grams.join(limits, on="gram")
      .group_by("row")
      .agg(hits=pl.min_horizontal("count", limit).sum())
    )
    hits_N[np.searchsorted(rows, found["row"].to_numpy())] = found["hits"].to_numpy()
  member = np.isin(rows, refs.rows)
  brevity: dict[tuple[int, bool], float] = {}
  for key in set(zip(lengths.tolist(), member.tolist(), strict=True)):
    brevity[key] = _brevity(key[0], refs.lengths, leave_out=key[1])
  penalty = [brevity[k] for k in zip(lengths.tolist(), member.tolist(), strict=True)]
  return _score(hits_ON, lengths, np.array(penalty))


def _score(
  hits_ON: Num[np.ndarray, "O N"],
  lengths_N: Int[np.ndarray, " N"],
  brevity_N: Float[np.ndarray, " N"],
) -> Float[np.ndarray, " N"]:
  orders_O1 = np.arange(ORDER)[:, None]
  all_ON = np.maximum(lengths_N - orders_O1, 1)
  logs_ON = np.log(np.where(hits_ON == 0, _EPSILON, hits_ON) / all_ON)
  return np.where(hits_ON[0] == 0, 0.0, brevity_N * np.exp(logs_ON.mean(axis=0)))


def _brevity(
  length: int, lengths: collections.Counter[int], *, leave_out: bool
) -> float:
  """BLEU's penalty for a text shorter than the reference closest in length."""
  there = [n for n, many in lengths.items() if many > (leave_out and n == length)]
  if not there or not length:
    return 0.0
  closest = min(there, key=lambda n: (abs(n - length), n))
  return 1.0 if length > closest else math.exp(1 - closest / length)


def _chunks(rows: Rows) -> list[Rows]:
  return np.split(rows, range(_CHUNK, len(rows), _CHUNK))


def _two(grams: pl.DataFrame) -> pl.DataFrame:
  """For each n-gram the two rows that have it most."""
  return (
    grams.sort("count", descending=True).group_by("gram", maintain_order=True).head(2)
  )


def _grams(texts: pl.Series, rows: Rows) -> Iterable[pl.DataFrame]:
  """For each order, how often each row has each n-gram: `row`, `gram`, `count`."""
  lengths = texts.list.len().to_numpy()
  row_W = np.repeat(rows, lengths)
  word_W = texts.filter(texts.list.len() > 0).explode().hash().to_numpy()
  gram_W = word_W
  for order in range(1, ORDER + 1):
    if order > 1:
      gram_W = gram_W[:-1] * _MULTIPLIER + word_W[order - 1 :]
    end = order - 1
    inside_W = row_W[: len(gram_W)] == row_W[end:]
    yield (
      pl.DataFrame({"row": row_W[: len(gram_W)][inside_W], "gram": gram_W[inside_W]})
      .group_by("row", "gram")
      .len("count")
    )


def _thin(texts: pl.Series, pool: Rows, max_bleu: float) -> list[int]:
  """Rows of `pool` to drop, the last first, while above `max_bleu` against the rest."""
  scores = bleu(texts, pool, references(texts, pool))
  suspects = pool[scores > max_bleu]
  if not suspects.size:
    return []
  # Limits only fall as texts go, so that only suspects need to be looked at one by one.
  clear = references(texts, np.setdiff1d(pool, suspects))
  lengths = collections.Counter(texts.gather(pool).list.len().to_list())
  counts: list[OfRow] = []
  holders: list[OfGram] = []
  for limits, grams in zip(
    clear.limits, _grams(texts.gather(suspects), suspects), strict=True
  ):
    known = grams.join(limits.select("gram", "most"), on="gram", how="left")
    of_row: OfRow = collections.defaultdict(list)
    of_gram: OfGram = collections.defaultdict(dict)
    for row, gram, count, most in known.fill_null(0).iter_rows():
      of_row[row].append((gram, count, most))
      of_gram[gram][row] = count
    counts.append(of_row)
    holders.append(of_gram)
  dropped = []
  for row in suspects[::-1].tolist():
    hits_O1 = np.array(
      [[_hits(row, *one)] for one in zip(counts, holders, strict=True)]
    )
    length = len(texts[row])
    brevity = _brevity(length, lengths, leave_out=True)
    if _score(hits_O1, np.array([length]), np.array([brevity]))[0] > max_bleu:
      dropped.append(row)
      lengths[length] -= 1
      for of_row, of_gram in zip(counts, holders, strict=True):
        for gram, _, _ in of_row[row]:
          del of_gram[gram][row]
  return dropped


def _hits(row: int, of_row: OfRow, of_gram: OfGram) -> float:
  total = 0
  for gram, count, limit in of_row[row]:
    if limit < count:
      others = (n for holder, n in of_gram[gram].items() if holder != row)
      limit = max(limit, max(others, default=0))
    total += min(count, limit)
  return total
