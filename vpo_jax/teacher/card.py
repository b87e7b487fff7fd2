"""The data card of the SFT set: counts, lengths, diversity and examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from etils import epath
from jaxtyping import Float, Int

from vpo_jax import records
from vpo_jax.describe import bleu, page, words

_REFERENCES = 10_000  # exact up to this many texts, as in configs/curate.py
_EXAMPLES = 3
_MAX_CHARACTERS = 1_000  # longer texts of the examples are cut
_GROUPS = ("all", "general", "safety")
# Why a row has no example: `kind` of ask.NoAnswer, and its meaning.
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
    queries: all queries of the stage.
    examples: the rows of sft.jsonl.
    aside: the rows of set_aside.jsonl.
    counts: the counts in the stage's manifest.
    model: the teacher's name.
  """
  texts = {
    "queries": words.of([row.query for row in examples]),
    "prompts": words.of([row.prompt for row in examples]),
  }
  lengths = {name: _lengths(each) for name, each in texts.items()}
  scores = {name: bleu.self_bleu(each, _REFERENCES) for name, each in texts.items()}
  page.histogram(folder / "lengths.png", "words", page.PROMPT_WORDS, lengths)
  page.histogram(folder / "self_bleu.png", "self-BLEU", page.SHARES, scores)
  page.publish(
    folder,
    [
      f"# SFT prompts written by {model}",
      _outcomes(queries, examples, aside),
      _usage(counts),
      _texts(lengths, scores),
      "## Examples",
      *_examples(examples, aside),
    ],
  )


def kind(row: records.SetAside) -> str:
  """Returns which of `KINDS` a row was set aside for."""
  return row.reason.partition(":")[0]


def _outcomes(
  queries: Sequence[records.Query],
  examples: Sequence[records.SftExample],
  aside: Sequence[records.SetAside],
) -> str:
  category = {row.id: row.category for row in queries}
  outcomes = [
    ("passed the critique", [row.query_id for row in examples if row.refined is None]),
    ("refined", [row.query_id for row in examples if row.refined is not None]),
  ]
  for name, meaning in KINDS.items():
    ids = [row.id for row in aside if kind(row) == name]
    outcomes.append((f"set aside, {name}: {meaning}", ids))
  total = {group: _count(category, group, category) for group in _GROUPS}
  lines = [f"| queries | {' | '.join(f'{n:,}' for n in total.values())} |"]
  for name, ids in outcomes:
    cells = [_share(_count(ids, group, category), total[group]) for group in _GROUPS]
    lines.append(f"| {name} | {' | '.join(cells)} |")
  head = "| outcome | all | general | safety-related |"
  section = page.table("## Queries", head, lines)
  unread = sum(kind(row) not in KINDS for row in aside)
  note = f"\n\n{unread:,} rows of the input held no new query." if unread else ""
  return section + note


def _count(ids: Any, group: str, category: Mapping[str, str]) -> int:
  return sum(group in ("all", category[id]) for id in ids)


def _share(count: int, total: int) -> str:
  return f"{count:,} ({count / total:.1%})" if total else "0"


def _usage(counts: Mapping[str, Any]) -> str:
  cost = counts["cost_usd"]
  money = "no known price" if cost is None else f"${cost:,.2f}"
  return (
    f"{counts['calls'] + counts['journal_hits']:,} replies,"
    f" {counts['journal_hits']:,} of them from the journal;"
    f" {counts['prompt_tokens']:,} prompt tokens, {counts['completion_tokens']:,}"
    f" completion tokens; {money}. {counts['train']:,} rows are for training,"
    f" {counts['heldout']:,} held out."
  )


def _texts(
  lengths: Mapping[str, Int[np.ndarray, " N"]],
  scores: Mapping[str, Float[np.ndarray, " N"]],
) -> str:
  lines = []
  for name, values in lengths.items():
    low, median, high = np.quantile(values, (0.05, 0.5, 0.95))
    lines.append(
      f"| {name} | {low:.0f} | {median:.0f} | {high:.0f} | {scores[name].mean():.4f} |"
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
  sections = [
    _example("Passed the critique", row.query, p=row.prompt) for row in passed
  ]
  for row in refined:
    parts = {"p": row.generated, "c": row.critique, "refined": row.prompt}
    sections.append(_example("Refined", row.query, **parts))
  for name in KINDS:
    rows = [row for row in aside if kind(row) == name][:_EXAMPLES]
    sections += [_example("Set aside", row.text, reason=row.reason) for row in rows]
  return sections


def _example(title: str, query: str, **parts: str) -> str:
  lines = [f"{title}: {page.quoted(query)}", ""]
  lines += [f"- {k}: {page.quoted(v, _MAX_CHARACTERS)}" for k, v in parts.items()]
  return "\n".join(lines)


def _lengths(texts: pl.Series) -> Int[np.ndarray, " N"]:
  return texts.list.len().to_numpy().astype(np.int64)
