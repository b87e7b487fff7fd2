"""The data card of the queries: what was dropped and why, and what was kept."""

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
    source: name of the queries' file.
    counts: the counts in the stage's manifest.
    rows: every row; `reason` says why it was dropped.
    kept: the rows that were kept, and their diversity.
  """
  lengths = rows.filter(~pl.col("aside")).select("words", "reason").collect()
  page.histogram(
    folder / "lengths.png",
    "words in a query",
    page.QUERY_WORDS,
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
  remaining = counts["read"]
  lines = [f"| read | | {remaining:,} |"]
  steps = {"set aside: not a query": counts["set_aside"]}
  for key, number in counts.items():
    if key.startswith("dropped_"):
      steps[key.removeprefix("dropped_").replace("_", " ")] = number
  for step, number in steps.items():
    remaining -= number
    lines.append(f"| {step} | {number:,} | {remaining:,} |")
  note = f"{counts['repaired']:,} texts were damaged (entities, encoding) and repaired."
  return (
    page.table("## What was dropped", "| step | rows | remaining |", lines)
    + f"\n\n{note}"
  )


def _splits(counts: Mapping[str, int | float]) -> str:
  lines = [
    f"| {name} | {counts[name] - counts[f'{name}_safety']:,}"
    f" | {counts[f'{name}_safety']:,} |"
    for name in ("kept", "sft", "dpo", "test")
  ]
  return page.table("## Splits", "| rows | general | safety-related |", lines)


def _diversity(kept: compare.Kept) -> str:
  lines = []
  for name, each in (("before", kept.before), ("after", kept.after)):
    exact = f"{each.mean + each.error:.4f} ± {each.error_spread:.4f}"
    lines.append(f"| {name} | {each.mean:.4f} | {each.error:.4f} | {exact} |")
  note = (
    "BLEU-3 of each query against others, smoothing method 1; mean over all queries."
    " A sample of references gives a lower figure than all other queries; the"
    " difference is measured on 2,000 queries.\n\n"
    "![self-BLEU](self_bleu.png)\n\n![lengths](lengths.png)"
  )
  head = "| filter | against a sample | difference | against all others |"
  return page.table("## Diversity (self-BLEU)", head, lines) + "\n\n" + note


def _languages(rows: pl.LazyFrame) -> str:
  kept = rows.filter(pl.col("reason").is_null())
  found = kept.group_by("language").len().collect().sort("len", "language")
  lines = [
    f"| {'unsure' if code == 'un' else code} | {number:,} |"
    for code, number in found.reverse().head(12).iter_rows()
  ]
  return page.table("## Languages", "| language | rows kept |", lines)


def _examples(rows: pl.LazyFrame) -> list[str]:
  """The first rows by `place`, of each reason and of the rows kept."""
  reason = pl.when("aside").then(pl.lit("set aside")).otherwise("reason")
  shown = (
    rows.select("place", "text", outcome=reason.fill_null("kept"))
    .group_by("outcome")
    .agg(pl.col("text").sort_by("place", nulls_last=True).head(_EXAMPLES))
    .sort("outcome")
    .collect(engine="streaming")
  )
  return [page.examples(name, texts) for name, texts in shown.iter_rows()]
