"""The data card of the SFT set: what the teacher wrote, refined, refused."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from etils import epath
from jaxtyping import Float, Int

from vpo_jax import records
from vpo_jax.describe import bleu, page, words

_REFERENCES = 10_000  # self-BLEU is exact for as many texts, as in configs/curate.py
_EXAMPLES = 3
_LONG = 1_000
_GROUPS = ("all", "general", "safety")
# Why a row has no example (ask.NoAnswer).
KINDS = {
  "refused": "the teacher declined",
  "unparsed": "no reply had its marker",
  "failed": "the server gave no reply",
  "flawed": "the refinement was rejected too",
}


def write(
  folder: epath.Path,
  queries: Sequence[records.Query],
  examples: Sequence[records.SftExample],
  aside: Sequence[records.SetAside],
  counts: Mapping[str, Any],
  model: str,
) -> None:
  """Writes `README.md`, `lengths.png` and `self_bleu.png`.

  Args:
    queries: all that the teacher was asked about.
    counts: what the stage reports.
    model: the teacher's name.
  """
  asked = _words([row.query for row in examples])
  written = _words([row.prompt for row in examples])
  lengths = {"queries": _lengths(asked), "prompts": _lengths(written)}
  scores = {
    "queries": bleu.self_bleu(asked, _REFERENCES),
    "prompts": bleu.self_bleu(written, _REFERENCES),
  }
  page.histogram(folder / "lengths.png", "words", page.WIDE, lengths)
  page.histogram(folder / "self_bleu.png", "self-BLEU", page.SHARES, scores)
  page.publish(
    folder,
    [
      f"# SFT prompts written by {model}",
      _rates(queries, examples, aside),
      _asked(counts),
      _texts(lengths, scores),
      "## Examples",
      *_examples(examples, aside),
    ],
  )


def kind(row: records.SetAside) -> str:
  """Which of `KINDS` a row was set aside for."""
  return row.reason.partition(":")[0]


def _rates(
  queries: Sequence[records.Query],
  examples: Sequence[records.SftExample],
  aside: Sequence[records.SetAside],
) -> str:
  category = {row.id: row.category for row in queries}
  became = [
    ("passed the critique", [row.query_id for row in examples if row.refined is None]),
    ("refined", [row.query_id for row in examples if row.refined is not None]),
  ]
  for name, meaning in KINDS.items():
    ids = [row.id for row in aside if kind(row) == name]
    became.append((f"set aside, {name}: {meaning}", ids))
  whole = {group: _count(category, group, category) for group in _GROUPS}
  lines = [f"| queries | {' | '.join(f'{n:,}' for n in whole.values())} |"]
  for name, ids in became:
    cells = [_share(_count(ids, group, category), whole[group]) for group in _GROUPS]
    lines.append(f"| {name} | {' | '.join(cells)} |")
  head = "| what became of them | all | general | safety-related |"
  section = page.table("## Queries", head, lines)
  unread = sum(kind(row) not in KINDS for row in aside)
  note = f"\n\n{unread:,} rows of the input held no new query." if unread else ""
  return section + note


def _count(ids: Any, group: str, category: Mapping[str, str]) -> int:
  return sum(group in ("all", category[one]) for one in ids)


def _share(count: int, whole: int) -> str:
  return f"{count:,} ({count / whole:.1%})" if whole else "0"


def _asked(counts: Mapping[str, Any]) -> str:
  cost = counts["cost_usd"]
  money = "no known price" if cost is None else f"${cost:,.2f}"
  return (
    f"{counts['calls'] + counts['journal_hits']:,} replies,"
    f" {counts['journal_hits']:,} of them from the journal;"
    f" {counts['prompt_tokens']:,} tokens asked, {counts['completion_tokens']:,}"
    f" answered; {money}. {counts['train']:,} rows are for training,"
    f" {counts['heldout']:,} held out."
  )


def _texts(
  lengths: Mapping[str, Int[np.ndarray, " N"]],
  scores: Mapping[str, Float[np.ndarray, " N"]],
) -> str:
  lines = []
  for name, long in lengths.items():
    low, middle, high = np.quantile(long, (0.05, 0.5, 0.95))
    lines.append(
      f"| {name} | {low:.0f} | {middle:.0f} | {high:.0f} | {scores[name].mean():.4f} |"
    )
  head = "| texts | words: 5 % | median | 95 % | self-BLEU |"
  note = (
    "Queries and prompts of the examples. Self-BLEU is BLEU-3 of each text against the"
    f" first {_REFERENCES:,} others, smoothing method 1; mean over all texts.\n\n"
    "![lengths](lengths.png)\n\n![self-BLEU](self_bleu.png)"
  )
  return page.table("## Lengths and diversity", head, lines) + "\n\n" + note


def _examples(
  examples: Sequence[records.SftExample], aside: Sequence[records.SetAside]
) -> list[str]:
  passed = [row for row in examples if row.refined is None][:_EXAMPLES]
  refined = [row for row in examples if row.refined is not None][:_EXAMPLES]
  told = [_one(("Passed the critique", row.query), ("p", row.prompt)) for row in passed]
  for row in refined:
    parts = ("p", row.generated), ("c", row.critique), ("refined", row.prompt)
    told.append(_one(("Refined", row.query), *parts))
  for name in KINDS:
    rows = [row for row in aside if kind(row) == name][:_EXAMPLES]
    told += [_one(("Set aside", row.text), ("reason", row.reason)) for row in rows]
  return told


def _one(first: tuple[str, str], *rest: tuple[str, str]) -> str:
  lines = [f"{first[0]}: {page.quoted(first[1])}", ""]
  lines += [f"- {name}: {page.quoted(text, _LONG)}" for name, text in rest]
  return "\n".join(lines)


def _words(texts: Sequence[str]) -> pl.Series:
  frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
  return frame.select(words.words(words.key(pl.col("text")))).to_series()


def _lengths(texts: pl.Series) -> Int[np.ndarray, " N"]:
  return texts.list.len().to_numpy().astype(np.int64)
