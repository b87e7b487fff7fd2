"""Numbers of an evaluation as its pages write them."""

from collections.abc import Mapping
from typing import Any

from vpo_jax.evaluate import suites

Results = Mapping[str, Any]
Row = Mapping[str, Any]


def value(number: float, unit: str, *, signed: bool = False) -> str:
  """A mean for readers; shares (unit "%") are times 100."""
  sign = "+" if signed else ""
  return f"{100 * number:{sign}.1f}" if unit else f"{number:{sign}.2f}"


def line(*cells: str) -> str:
  """A row of a Markdown table."""
  return f"| {' | '.join(cells)} |"


def cell(cell: Row, unit: str) -> str:
  """A mean, the paper's in brackets if there is one, and the interval."""
  theirs = cell["paper"]
  mean, low, high = (value(cell[key], unit) for key in ("mean", "low", "high"))
  form = ".1f" if unit else ".2f"
  brackets = "" if theirs is None else f" ({theirs:{form}})"
  return f"{mean}{brackets}, {low} to {high}"


def query_counts(part: Row) -> str:
  """How many queries of each suite a part is about."""
  counts = [
    f"{count} queries of {suites.ALL[suite].title}"
    for suite, count in part["queries"].items()
  ]
  return f"{'; '.join(counts)}."


def share(row: Row) -> str:
  """A share and its interval, times 100."""
  share, low, high = (100 * row[key] for key in ("share", "low", "high"))
  return f"{share:.1f}, {low:.1f} to {high:.1f}"


def pairs_agreement(part: Row) -> str:
  """How many people compared videos, and how well they agree."""
  alphas = [
    f"{row['question'].replace('_', ' ')} {row['alpha']:.2f}"
    for row in part["agreement"]
    if row["alpha"] is not None
  ]
  agreed = f" Krippendorff's alpha: {', '.join(alphas)}." if alphas else ""
  return f"{part['answers']} answers of {len(part['raters'])} raters.{agreed}"


def levels_agreement(part: Row) -> str:
  """How many people gave levels, and how well they and the judge agree."""
  alpha, judge = part["agreement"]["alpha"], part.get("judge")
  notes = [f"{part['answers']} answers of {len(part['raters'])} raters."]
  if alpha is not None:
    notes.append(f"Krippendorff's alpha (ordinal): {alpha:.2f}.")
  if judge and judge["kappa_weighted"] is not None:
    notes.append(
      f"With the judge, on {judge['videos']} videos: kappa (quadratic)"
      f" {judge['kappa_weighted']:.2f}."
    )
  return " ".join(notes)
