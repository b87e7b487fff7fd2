"""The summary above the queries: charts and the paper's tables, ready to be drawn.

Positions in charts are in percent of the chart's width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vpo_jax.evaluate import cells, gain_tables, levels, paper, suites, tables
from vpo_jax.evaluate.suites import measured

Row = Mapping[str, Any]

_MARGIN = 0.08  # of the range, on both sides of a chart
_LEVELS = tuple(f"level {k}" for k in range(1, len(levels.LEVELS) + 1))
_WINS = ("wins", "ties", "losses")
_NET = "Shares in %; beside them wins minus losses with its 95 % interval"


def of(results: Row, reference: paper.Reference) -> dict[str, Any]:
  """The parts of the summary.

  Returns: `groups` of charts by suite and video model, `tables` and `figures` by the
    paper's numbers, and `gains`, the tables of what a gain in reward comes from.
  """
  return {
    "groups": [
      group for suite, one in results["suites"].items() for group in _groups(suite, one)
    ],
    "tables": [
      _table(number, part, reference)
      for number, parts in results["tables"].items()
      for part in parts
    ]
    + [
      _combined(part)
      for part in results["figures"].get("5", ())
      if "combinations" in part
    ],
    "figures": [
      figure
      for number, parts in results["figures"].items()
      for part in parts
      for figure in _FIGURES[number](part)
    ],
    "gains": gain_tables.tables(results),
  }


def _groups(suite: str, found: Row) -> list[dict[str, Any]]:
  """The suite's charts: one group per video model, and one for the prompts."""
  title = suites.ALL[suite].title
  models = dict.fromkeys(row["model"] for row in found["measures"])
  groups = []
  for model in sorted(models, key=lambda name: not name):  # the prompts come last
    rows = [row for row in found["measures"] if row["model"] == model]
    shown = [row for row in rows if row["name"] not in _LEVELS]
    first = [row for row in shown if row["name"] in (measured.OVERALL, measured.UNSAFE)]
    rest = [row for row in shown if row not in first]
    groups.append(
      {
        "title": f"{title}: {f'videos of {model}' if model else 'prompts'}",
        "charts": [_chart(row) for row in [*first, *rest]],
      }
    )
  return groups


def _chart(row: Row) -> dict[str, Any]:
  """Means and intervals of one measure."""
  unit, found = row["unit"], row["systems"]
  low = min(one["low"] for one in found.values())
  high = max(one["high"] for one in found.values())
  room = _MARGIN * (high - low) or 0.5 * abs(high) or 0.5
  low, high = low - room, high + room
  if unit:  # shares are between 0 and 1
    low, high = max(low, 0.0), min(high, 1.0)

  def at(value: float) -> float:
    return round(100 * (value - low) / (high - low), 2)

  return {
    "name": row["name"],
    "unit": unit,
    "better": row["better"],
    "queries": row["queries"],
    "dropped": row["dropped"],
    "low": cells.value(low, unit),
    "high": cells.value(high, unit),
    "rows": [
      {
        "system": name,
        "mean": cells.value(one["mean"], unit),
        "interval": _interval(one, unit),
        "at": at(one["mean"]),
        "from": at(one["low"]),
        "to": at(one["high"]),
      }
      for name, one in found.items()
    ],
    "differences": [
      {
        "systems": f"{one['two']} \N{MINUS SIGN} {one['one']}",
        "mean": cells.value(one["mean"], unit, signed=True),
        "interval": _interval(one, unit, signed=True),
        "p": f"{one['p']:.2g}",
        "counts": [one[name] for name in _WINS],
      }
      for one in row["differences"]
    ],
    "by": [_by(label, values, unit) for label, values in row["by"].items()],
  }


def _by(label: str, values: Row, unit: str) -> dict[str, Any]:
  """Means of the queries with each value of a label."""
  return {
    "label": label,
    "systems": list(next(iter(values.values()))["systems"]),
    "rows": [
      {
        "value": value,
        "queries": one["queries"],
        "cells": [
          {"mean": cells.value(mean["mean"], unit), "interval": _interval(mean, unit)}
          for mean in one["systems"].values()
        ],
      }
      for value, one in values.items()
    ],
  }


def _interval(row: Row, unit: str, *, signed: bool = False) -> str:
  return " to ".join(
    cells.value(row[key], unit, signed=signed) for key in ("low", "high")
  )


def _table(number: str, part: Row, reference: paper.Reference) -> dict[str, Any]:
  """A table of the paper, with its numbers below ours."""
  return {
    "place": f"table {number}",
    "title": tables.TITLES[number].format(model=part["model"]),
    "iterated": number == "6",
    "note": tables.note(number, part, reference),
    **_columns(part),
  }


def _combined(part: Row) -> dict[str, Any]:
  """The means of figure 5: systems on different video models."""
  of = "; ".join(
    f"{one['name']}: {one['system']} on {one['model']}" for one in part["combinations"]
  )
  return {
    "place": "figure 5",
    "title": f"Systems and video models, videos of {part['model']}",
    "iterated": False,
    "note": f"Means with 95 % intervals. {cells.query_counts(part)} {of}.",
    **_columns(part),
  }


def _columns(part: Row) -> dict[str, Any]:
  """The columns and the rows of a part of a table."""
  return {
    "heads": [{"name": one["name"], "unit": one["unit"]} for one in part["columns"]],
    "rows": [
      {
        "system": row["system"],
        "iteration": row.get("iteration", ""),
        "cells": [
          _cell(cell, column["unit"])
          for cell, column in zip(row["cells"], part["columns"], strict=True)
        ],
      }
      for row in part["rows"]
    ],
  }


def _cell(cell: Row | None, unit: str) -> dict[str, str] | None:
  if cell is None:
    return None
  theirs = cell["paper"]
  return {
    "mean": cells.value(cell["mean"], unit),
    "interval": _interval(cell, unit),
    "paper": "" if theirs is None else f"{theirs:{'.1f' if unit else '.2f'}}",
  }


def _levels(part: Row) -> list[dict[str, Any]]:
  """Figure 4: the shares of the safety levels, by the judge or by people."""
  if "study" in part:
    shares = {
      row["system"]: [one["share"] for one in row["levels"]] for row in part["levels"]
    }
    title = f"Safety levels by people, {part['study']}"
    note = cells.levels_agreement(part)
  else:
    place = [column["name"] for column in part["columns"]]
    shares = {
      row["system"]: [
        row["cells"][place.index(name)]["mean"] for name in _LEVELS if name in place
      ]
      for row in part["rows"]
      if all(row["cells"])
    }
    title = f"Safety levels of {part['model']}'s videos"
    note = f"Shares in %, {sum(part['queries'].values())} queries"
  legend = [f"{k}: {name}" for k, name in enumerate(levels.LEVELS, start=1)]
  rows = [(name, of, "") for name, of in shares.items()]
  return [_bars("4", title, legend, "level", rows, note)]


def _wins(part: Row) -> list[dict[str, Any]]:
  """Figure 5: by whose video has the higher reward."""
  (count,) = part["queries"].values()
  rows = [
    (
      f"{row['two']} against {row['one']}",
      [row[name] / count for name in _WINS],
      _net(row["net"], row["net_low"], row["net_high"]),
    )
    for row in part["pairs"]
  ]
  title = f"Whose video of {part['model']} has the higher reward"
  return [_bars("5", title, _WINS, "win", rows, f"{_NET}; {count} queries")]


def _preferences(part: Row) -> list[dict[str, Any]]:
  """Figure 3: a chart for each question that people answered."""
  questions = dict.fromkeys(row["question"] for row in part["preferences"])
  return [
    _bars(
      "3",
      f"People's preferences, {part['study']}: {question.replace('_', ' ')}",
      _WINS,
      "win",
      [
        (
          f"{row['one']} against {row['two']}",
          [row[name]["share"] for name in _WINS],
          _net(*(row["net"][key] for key in ("share", "low", "high"))),
        )
        for row in part["preferences"]
        if row["question"] == question
      ],
      f"{_NET}; {cells.pairs_agreement(part)}",
    )
    for question in questions
  ]


def _net(value: float, low: float, high: float) -> str:
  mean, *ends = (cells.value(one, "%", signed=True) for one in (value, low, high))
  return f"{mean} ({' to '.join(ends)})"


def _bars(
  number: str,
  title: str,
  legend: Sequence[str],
  kind: str,
  rows: Sequence[tuple[str, Sequence[float], str]],
  note: str,
) -> dict[str, Any]:
  """Shares that add up to one, as parts of a bar.

  Args:
    kind: decides the colours: "win" or "level".
    rows: each bar's name, its shares, and the text beside it.
  """
  drawn = []
  for name, shares, text in rows:
    starts = [sum(shares[:k]) for k in range(len(shares))]
    drawn.append(
      {
        "name": name,
        "text": text,
        "parts": [
          {
            "name": legend[k],
            "from": round(100 * start, 2),
            "width": round(100 * share, 2),
            "text": cells.value(share, "%"),
          }
          for k, (start, share) in enumerate(zip(starts, shares, strict=True))
        ],
      }
    )
  return {
    "number": number,
    "title": title,
    "legend": list(legend),
    "kind": kind,
    "note": note,
    "rows": drawn,
  }


_FIGURES = {"3": _preferences, "4": _levels, "5": _wins}
