"""What a gain in reward comes from, as tables and sentences for readers."""

from typing import Any

from vpo_jax.describe import page
from vpo_jax.evaluate import cells, reward_gains, suites
from vpo_jax.evaluate.cells import Results, Row

TITLE = "What a gain in reward comes from"
_NOTE = (
  "Differences with 95 % intervals; r is the correlation over queries (Pearson) of the"
  " gain in reward with the column's gain, left out where one of them is constant."
)
_VERDICTS = (
  "An imprecise prompt drops something that was asked for, or breaks another rule than"
  " that of safety."
)


def findings(results: Results) -> list[str]:
  """A sentence for each pair whose gain in reward comes with a loss of alignment."""
  return [
    _finding(suite, row)
    for suite, one in results["suites"].items()
    for row in one.get("reward_gains", ())
    if row["loses_alignment"]
  ]


def _finding(suite: str, row: Row) -> str:
  aligned = next(p for p in row["parts"] if p["name"] == reward_gains.ALIGNED)
  other = (
    f"; {_queries(aligned['suite'], aligned)}" if aligned["suite"] != suite else ""
  )
  return (
    f"{row['two']} gains reward over {row['one']} ({_mean(row, '')}, {_interval(row)};"
    f" videos of {row['model']}, {_queries(suite, row)}) by losing alignment"
    f" ({_mean(aligned, '%')} percentage points, {_interval(aligned, '%')}"
    f"{other}): not recommended."
  )


def tables(results: Results) -> list[dict[str, Any]]:
  """A table for each suite and video model, with a row for each pair of systems.

  Returns: `title`, `note`, `heads` and `rows`. A row's cells have a `mean` with its
    `interval`, and the correlation `r` with `r_interval`, "" if there is none; a cell
    is None if the pair has no such difference.
  """
  return [
    _table(suite, model, [row for row in rows if row["model"] == model])
    for suite, one in results["suites"].items()
    if (rows := one.get("reward_gains"))
    for model in dict.fromkeys(row["model"] for row in rows)
  ]


def _table(suite: str, model: str, rows: list[Row]) -> dict[str, Any]:
  found = [
    {"reward": _cell({**row, "unit": "", "correlation": None})}
    | {_head(suite, part): _cell(part) for part in row["parts"]}
    for row in rows
  ]
  heads = list(dict.fromkeys(head for row in found for head in row))
  judged = any(row["loses_alignment"] is not None for row in rows)
  return {
    "title": f"{suites.ALL[suite].title}: videos of {model}",
    "note": f"{_queries(suite, rows[0])}. {_NOTE}{' ' + _VERDICTS if judged else ''}",
    "heads": heads,
    "rows": [
      {
        "one": row["one"],
        "two": row["two"],
        "cells": [by_head.get(head) for head in heads],
      }
      for row, by_head in zip(rows, found, strict=True)
    ],
  }


def _head(suite: str, part: Row) -> str:
  points = ", percentage points" if part["unit"] else ""
  other = f" ({suites.ALL[part['suite']].title})" if part["suite"] != suite else ""
  return f"{part['name']}{points}{other}"


def _cell(part: Row) -> dict[str, str]:
  r = part["correlation"]
  return {
    "mean": _mean(part, part["unit"]),
    "interval": _interval(part, part["unit"]),
    "r": f"{r['value']:z.2f}" if r else "",
    "r_interval": f"{r['low']:z.2f} to {r['high']:z.2f}" if r else "",
  }


def sections(results: Results) -> list[str]:
  """The tables as sections of README.md."""
  return [
    page.table(
      f"## {TITLE} ({table['title']})",
      cells.line("systems", *table["heads"]),
      [
        cells.line(f"{row['two']} - {row['one']}", *map(_text, row["cells"]))
        for row in table["rows"]
      ],
    )
    + f"\n\n{table['note']}"
    for table in tables(results)
  ]


def _text(cell: dict[str, str] | None) -> str:
  if cell is None:
    return ""
  r = f"; r {cell['r']}, {cell['r_interval']}" if cell["r"] else ""
  return f"{cell['mean']}, {cell['interval']}{r}"


def _queries(suite: str, row: Row) -> str:
  return f"{row['queries']} queries of {suites.ALL[suite].title}"


def _mean(row: Row, unit: str) -> str:
  return cells.value(row["mean"], unit, signed=True)


def _interval(row: Row, unit: str = "") -> str:
  return " to ".join(
    cells.value(row[key], unit, signed=True) for key in ("low", "high")
  )
