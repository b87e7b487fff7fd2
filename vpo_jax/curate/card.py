"""The data card: what the queries are, what was dropped, and why, in a page."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from etils import epath
from jaxtyping import Shaped

from vpo_jax import files
from vpo_jax.curate import compare

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
  _histogram(
    folder / "lengths.png",
    "words in a query",
    np.arange(0, 102, 2),
    {
      "read": lengths["words"].to_numpy(),
      "kept": lengths.filter(pl.col("reason").is_null())["words"].to_numpy(),
    },
  )
  _histogram(
    folder / "self_bleu.png",
    "self-BLEU of a query",
    np.linspace(0, 1, 51),
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
  with files.publish(folder / "README.md") as file:
    file.write("\n\n".join(sections) + "\n")


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
  return _table("## What was dropped", "| step | rows | left |", lines) + f"\n\n{note}"


def _splits(counts: Mapping[str, int | float]) -> str:
  lines = [
    f"| {name} | {counts[name] - counts[f'{name}_safety']:,}"
    f" | {counts[f'{name}_safety']:,} |"
    for name in ("kept", "sft", "dpo", "test")
  ]
  return _table("## What was taken", "| rows | general | safety-related |", lines)


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
  return _table("## Diversity (self-BLEU)", head, lines) + "\n\n" + note


def _languages(rows: pl.LazyFrame) -> str:
  kept = rows.filter(pl.col("reason").is_null())
  found = kept.group_by("language").len().collect().sort("len", "language")
  lines = [
    f"| {'not sure' if code == 'un' else code} | {number:,} |"
    for code, number in found.reverse().head(12).iter_rows()
  ]
  return _table("## Languages", "| language | rows kept |", lines)


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
  return [
    f"{name.replace('_', ' ').capitalize()}:\n\n" + "\n".join(map(_quoted, texts))
    for name, texts in shown.iter_rows()
  ]


def _quoted(text: str) -> str:
  # A query is data: none of its marks may become the page's.
  line = " ".join(text.split()).replace("`", "'")[:160]
  return f"- `{line}`"


def _table(title: str, head: str, lines: list[str]) -> str:
  rule = "|" + " --- |" * (head.count("|") - 1)
  return "\n".join([title, "", head, rule, *lines])


def _histogram(
  path: epath.Path,
  label: str,
  edges: Shaped[np.ndarray, " E"],
  series: Mapping[str, Shaped[np.ndarray, " N"]],
) -> None:
  from matplotlib import figure

  drawing = figure.Figure(figsize=(6, 3), layout="constrained")
  axes = drawing.add_subplot()
  for (name, values), kind in zip(series.items(), ("stepfilled", "step"), strict=True):
    inside = np.clip(values, edges[0], edges[-1])
    color = "0.8" if kind == "stepfilled" else "C0"
    axes.hist(inside, edges.tolist(), histtype=kind, color=color, label=name)
  axes.set_xlabel(label)
  axes.set_ylabel("queries")
  axes.legend(frameon=False)
  with files.publish(path, "wb") as file:
    drawing.savefig(file, format="png", dpi=120)
