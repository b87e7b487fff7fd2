"""The data card: what the queries are, what was dropped, and why, in a page."""

from collections.abc import Mapping

import polars as pl
from etils import epath

from vpo_jax.curate import compare
from vpo_jax.describe import page

_EXAMPLES = 3


def write(
  folder: epath.Path,
  source: str,
  counts: Mapping[str, int | float],
  rows: pl.LazyFrame,
  kept: compare.Kept,
) -> None:
  """Writes `README.md`, `lengths.png` and `self_bleu.png`.

  Args:
    source: name of the file that the queries came from.
    counts: what the stage reports.
    rows: every row, with its reason where it was dropped.
    kept: the rows that stayed, and their diversity.
  """
  lengths = rows.filter(~pl.col("aside")).select("words", "reason").collect()
  page.histogram(
    folder / "lengths.png",
    "words in a query",
    page.WORDS,
    {
      "read": lengths["words"].to_numpy(),
      "kept": lengths.filter(pl.col("reason").is_null())["words"].to_numpy(),
    },
  )
  page.histogram(
    folder / "self_bleu.png",
    "self-BLEU of a query",
    page.SHARES,
    {"before the filter": kept.before.scores, "after it": kept.after.scores},
  )
  sections = [
    f"# Queries curated from {source}",
    _steps(counts),
    _splits(counts),
    _diversity(kept),
    _languages(rows),
    "## Examples\n\n" + "\n\n".join(_examples(rows)),
  ]
  page.publish(folder, sections)


def _steps(counts: Mapping[str, int | float]) -> str:
  left = counts["read"]
  lines = [f"| read | | {left:,} |"]
  steps = {"set aside: no query": counts["set_aside"]}
  for key, number in counts.items():
    if key.startswith("dropped_"):
      steps[key.removeprefix("dropped_").replace("_", " ")] = number
  for step, number in steps.items():
    left -= number
    lines.append(f"| {step} | {number:,} | {left:,} |")
  note = f"{counts['repaired']:,} texts were damaged (entities, encoding) and repaired."
  return (
    page.table("## What was dropped", "| step | rows | left |", lines) + f"\n\n{note}"
  )


def _splits(counts: Mapping[str, int | float]) -> str:
  lines = [
    f"| {name} | {counts[name] - counts[f'{name}_safety']:,}"
    f" | {counts[f'{name}_safety']:,} |"
    for name in ("kept", "sft", "dpo", "test")
  ]
  return page.table("## What was taken", "| rows | general | safety-related |", lines)


def _diversity(kept: compare.Kept) -> str:
  lines = []
  for name, it in (("before", kept.before), ("after", kept.after)):
    whole = f"{it.mean + it.error:.4f} ± {it.error_spread:.4f}"
    lines.append(f"| {name} | {it.mean:.4f} | {it.error:.4f} | {whole} |")
  note = (
    "BLEU-3 of each query against others, smoothing method 1; mean over all queries."
    " Where the references are a sample, the figure is lower than against all others;"
    " by how much is measured on 2,000 queries.\n\n"
    "![self-BLEU](self_bleu.png)\n\n![lengths](lengths.png)"
  )
  head = "| filter | against the references | missed | against all others |"
  return page.table("## Diversity (self-BLEU)", head, lines) + "\n\n" + note


def _languages(rows: pl.LazyFrame) -> str:
  kept = rows.filter(pl.col("reason").is_null())
  found = kept.group_by("language").len().collect().sort("len", "language")
  lines = [
    f"| {'not sure' if code == 'un' else code} | {number:,} |"
    for code, number in found.reverse().head(12).iter_rows()
  ]
  return page.table("## Languages", "| language | rows kept |", lines)


def _examples(rows: pl.LazyFrame) -> list[str]:
  """A few rows of each reason and of those kept: the first in the order of places."""
  reason = pl.when("aside").then(pl.lit("set aside")).otherwise("reason")
  shown = (
    rows.select("place", "text", late=reason.fill_null("kept"))
    .group_by("late")
    .agg(pl.col("text").sort_by("place", nulls_last=True).head(_EXAMPLES))
    .sort("late")
    .collect(engine="streaming")
  )
  return [page.examples(name, texts) for name, texts in shown.iter_rows()]
