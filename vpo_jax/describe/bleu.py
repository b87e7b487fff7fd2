"""Self-BLEU: the similarity of each text to the others (Texygen, arXiv:1802.01886).

A text's self-BLEU is its BLEU with all other texts as references: n-gram orders 1 to 3
weighted equally, smoothing method 1 (Chen and Cherry, 2014: a count of 0 becomes 0.1).
BLEU clips the count of an n-gram to its largest count in a reference. So the two
largest counts of each n-gram, and the text with the largest, are enough to score every
text against all others: the cost grows with the number of words, not of pairs of texts.

Texts are lists of words in a polars column; n-grams are compared by 64-bit hashes.
Shapes: N rows, W words of all rows, O n-gram orders.
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
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplication is invertible

Rows = Int[np.ndarray, " _"]
# For `_drop_similar`. A candidate's n-grams: hash, count, and the largest count in the
# texts that are not candidates.
GramsOfRow = dict[int, list[tuple[int, int, int]]]
# An n-gram's count in each of the remaining candidates, by row.
CountsOfGram = dict[int, dict[int, int]]


@dataclasses.dataclass(frozen=True)
class References:
  """N-gram counts and lengths of the reference texts.

  Attributes:
    rows: row numbers of the references in the set of texts, ascending.
    limits: for each order a frame with `gram`, `most` (the largest count in one text),
      `holder` (that text's row) and `next` (the largest count in any other text).
    lengths: number of references of each length, in words.
  """

  rows: Rows
  limits: list[pl.DataFrame]
  lengths: collections.Counter[int]


def references(
  texts: pl.Series, rows: Rows, only: Iterable[pl.DataFrame] | None = None
) -> References:
  """Returns some rows of `texts` as references.

  Args:
    texts: the whole set of texts.
    rows: the rows to use.
    only: for each order, the n-grams to count (column `gram`); None counts all.
  """
  rows = np.sort(rows)
  filters = list(only) if only is not None else [None] * ORDER
  lengths: collections.Counter[int] = collections.Counter()
  tops: list[list[pl.DataFrame]] = [[] for _ in range(ORDER)]
  for part in _chunks(rows):
    chosen = texts.gather(part)
    lengths.update(chosen.list.len().to_list())
    for top, only_these, grams in zip(tops, filters, _grams(chosen, part), strict=True):
      if only_these is not None:
        grams = grams.join(only_these, on="gram", how="semi")
      top.append(_top_two(grams))
  limits = [
    _top_two(pl.concat(top))
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
  """Returns BLEU, in [0, 1], of some rows of `texts`.

  A row is not its own reference. An empty row, or one without references, has BLEU 0.
  """
  parts = [_bleu(texts.gather(part), part, refs) for part in _chunks(rows)]
  return np.concatenate(parts)


def self_bleu(texts: pl.Series, sample: int) -> Float[np.ndarray, " N"]:
  """Returns the self-BLEU of each text against the first `sample` texts.

  This is Texygen's self-BLEU if `sample` is at least the number of texts. With fewer
  references the figure is lower, but comparable between sets of different sizes; the
  order of the texts should then be random.
  """
  rows = np.arange(len(texts))
  return bleu(texts, rows, references(texts, rows[:sample]))


def exact_self_bleu(texts: pl.Series, rows: Rows) -> Float[np.ndarray, " N"]:
  """Returns the self-BLEU of some rows against all other texts.

  Only the n-grams of these rows are counted, so it is fast for a few rows. It measures
  the error of a sampled `self_bleu`.
  """
  only = [grams.select("gram").unique() for grams in _grams(texts.gather(rows), rows)]
  return bleu(texts, rows, references(texts, np.arange(len(texts)), only))


def similar(texts: pl.Series, sample: int, max_bleu: float) -> Bool[np.ndarray, " N"]:
  """Returns a mask of the texts to drop as too similar to the texts that are kept.

  First, of the first `sample` texts, the last text with a BLEU above `max_bleu` against
  the others is dropped until there is none. Then every other text is dropped that has a
  BLEU above `max_bleu` against those kept. Exact if `sample` covers all texts.
  """
  rows = np.arange(len(texts))
  drop = np.zeros(len(texts), dtype=bool)
  pool = rows[:sample]
  # Dropping a text can change another's closest reference length, and so its penalty.
  while dropped := _drop_similar(texts, pool, max_bleu):
    drop[dropped] = True
    pool = np.setdiff1d(pool, dropped)
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
    brevity[key] = _brevity(key[0], refs.lengths, is_reference=key[1])
  penalty = [brevity[k] for k in zip(lengths.tolist(), member.tolist(), strict=True)]
  return _score(hits_ON, lengths, np.array(penalty))


def _score(
  hits_ON: Num[np.ndarray, "O N"],
  lengths_N: Int[np.ndarray, " N"],
  brevity_N: Float[np.ndarray, " N"],
) -> Float[np.ndarray, " N"]:
  """BLEU from clipped n-gram counts, lengths in words, and brevity penalties."""
  orders_O1 = np.arange(ORDER)[:, None]
  totals_ON = np.maximum(lengths_N - orders_O1, 1)
  logs_ON = np.log(np.where(hits_ON == 0, _EPSILON, hits_ON) / totals_ON)
  return np.where(hits_ON[0] == 0, 0.0, brevity_N * np.exp(logs_ON.mean(axis=0)))


def _brevity(
  length: int, lengths: collections.Counter[int], *, is_reference: bool
) -> float:
  """BLEU's penalty for a text shorter than the reference closest in length.

  Args:
    is_reference: whether `lengths` includes the text itself.
  """
  others = [n for n, count in lengths.items() if count > (is_reference and n == length)]
  if not others or not length:
    return 0.0
  closest = min(others, key=lambda n: (abs(n - length), n))
  return 1.0 if length > closest else math.exp(1 - closest / length)


def _chunks(rows: Rows) -> list[Rows]:
  return np.split(rows, range(_CHUNK, len(rows), _CHUNK))


def _top_two(grams: pl.DataFrame) -> pl.DataFrame:
  """Returns the two rows with the largest counts of each n-gram."""
  return (
    grams.sort("count", descending=True).group_by("gram", maintain_order=True).head(2)
  )


def _grams(texts: pl.Series, rows: Rows) -> Iterable[pl.DataFrame]:
  """Yields for each order the n-gram counts of each row: `row`, `gram`, `count`."""
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


def _drop_similar(texts: pl.Series, pool: Rows, max_bleu: float) -> list[int]:
  """Returns rows of `pool` to drop, from last to first, above `max_bleu`."""
  scores = bleu(texts, pool, references(texts, pool))
  candidates = pool[scores > max_bleu]
  if not candidates.size:
    return []
  # Dropping texts only lowers the clipped counts, so other texts stay below `max_bleu`.
  others = references(texts, np.setdiff1d(pool, candidates))
  lengths = collections.Counter(texts.gather(pool).list.len().to_list())
  tables: list[tuple[GramsOfRow, CountsOfGram]] = []  # one for each order
  for limits, grams in zip(
    others.limits, _grams(texts.gather(candidates), candidates), strict=True
  ):
    limited = grams.join(limits.select("gram", "most"), on="gram", how="left")
    grams_of_row: GramsOfRow = collections.defaultdict(list)
    counts_of_gram: CountsOfGram = collections.defaultdict(dict)
    for row, gram, count, most in limited.fill_null(0).iter_rows():
      grams_of_row[row].append((gram, count, most))
      counts_of_gram[gram][row] = count
    tables.append((grams_of_row, counts_of_gram))
  dropped = []
  for row in candidates[::-1].tolist():
    hits_O1 = np.array([[_hits(row, *table)] for table in tables])
    length = len(texts[row])
    brevity = _brevity(length, lengths, is_reference=True)
    if _score(hits_O1, np.array([length]), np.array([brevity]))[0] > max_bleu:
      dropped.append(row)
      lengths[length] -= 1
      for grams_of_row, counts_of_gram in tables:
        for gram, _, _ in grams_of_row[row]:
          del counts_of_gram[gram][row]
  return dropped


def _hits(row: int, grams_of_row: GramsOfRow, counts_of_gram: CountsOfGram) -> float:
  """Sum of the row's n-gram counts, clipped to the largest count in another text."""
  total = 0
  for gram, count, limit in grams_of_row[row]:
    if limit < count:
      others = (n for other, n in counts_of_gram[gram].items() if other != row)
      limit = max(limit, max(others, default=0))
    total += min(count, limit)
  return total
