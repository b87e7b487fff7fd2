"""The paper's tables and figures by number, filled with a run's numbers.

A suite that a run leaves out is replaced by the run's own test queries where they have
the same measures; the table then names them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vpo_jax import templates
from vpo_jax.evaluate import combined, levels, measures, paper
from vpo_jax.evaluate.suites import measured

Results = Mapping[str, Any]
Summary = Mapping[str, Any]

_OPEN_SORA = "Open-Sora 1.2"  # the video model of tables 3 and 4


def tables_and_figures(
  results: Results, reference: paper.Reference, ratings: Mapping[str, Any]
) -> dict[str, Any]:
  """The parts `tables` and `figures` of results.json, by the paper's numbers.

  Args:
    ratings: people's ratings (`human.results.compute`), by the study's folder.

  A table is a list of parts, one for each video model. Each part has the suites, the
  columns, and one row per system that has all columns, with a cell per column: mean,
  interval, and the paper's number, None if it has none.
  """
  models = _models(results)
  first = next(iter(models), "")
  tables: dict[str, list[dict[str, Any]]] = {}
  for model in models:
    trained = model == first and reference.models.get(model) != _OPEN_SORA
    rewards, vbench = _rewards(results, model), _vbench(results, model)
    if trained:
      _add(tables, "1", _part(results, model, [*rewards, *vbench], reference.rewards))
      _add(tables, "5", _long_prompts(results, model, vbench, reference))
      for part in _iterations(results, model, rewards, reference):
        _add(tables, "6", part)
    else:
      _add(tables, "3", _part(results, model, vbench, reference.rewards))
      _add(tables, "4", _part(results, model, rewards, reference.rewards))
  verdicts = _find(results, "query_alignment", templates.VERDICTS)
  _add(tables, "2", _part(results, first, verdicts, reference.alignment))
  people = {
    kind: [
      {"study": name} | one for name, one in ratings.items() if one["kind"] == kind
    ]
    for kind in ("pairs", "levels")
  }
  figures = {
    "3": people["pairs"],
    "4": [*(_levels(results, model) for model in models), *people["levels"]],
    "5": [
      *(_wins(results, model) for model in models),
      *(
        combined.figure(
          suite, one["combinations"]["measures"], one["combinations"]["of"]
        )
        for suite, one in results["suites"].items()
        if "combinations" in one
      ),
    ],
  }
  return {
    "tables": dict(sorted(tables.items())),
    "figures": {
      number: kept
      for number, parts in figures.items()
      if (kept := [part for part in parts if part])
    },
  }


def _add(
  tables: dict[str, list[dict[str, Any]]], number: str, part: dict[str, Any] | None
) -> None:
  if part:
    tables.setdefault(number, []).append(part)


def _models(results: Results) -> list[str]:
  """The video models of the run, in order.

  Without those that render only some of the systems, for combinations (figure 5).
  """
  return list(
    dict.fromkeys(
      row["model"]
      for suite in results["suites"].values()
      for row in suite["measures"]
      if row["model"] and set(row["systems"]) == set(suite["systems"])
    )
  )


def _find(
  results: Results, suite: str, names: Sequence[str], model: str | None = None
) -> list[tuple[str, Summary]]:
  """A suite's measures, or the test queries' if the suite was left out."""
  for one in (suite, "test"):
    found = [measures.find(results, name, suite=one, model=model) for name in names]
    if any(found):
      return [(one, row) for row in found if row]
  return []


def _rewards(results: Results, model: str) -> list[tuple[str, Summary]]:
  """The dimensions of the reward and their sum; then the share of cut prompts."""
  for suite in ("monetbench", "test"):
    rows = results["suites"].get(suite, {"measures": []})["measures"]
    of_model = [
      row
      for row in rows
      if row["model"] == model and (not row["unit"] or row["name"] == measured.CUT)
    ]
    if of_model:
      return [(suite, row) for row in of_model]
  return []


def _vbench(results: Results, model: str) -> list[tuple[str, Summary]]:
  rows = results["suites"].get("vbench", {"measures": []})["measures"]
  return [("vbench", row) for row in rows if row["model"] == model]


def _part(
  results: Results,
  model: str,
  columns: Sequence[tuple[str, Summary]],
  theirs: Callable[[str, str], Mapping[str, float]],
  systems: Sequence[str] = (),
) -> dict[str, Any] | None:
  """One video model's part of a table.

  Args:
    columns: the measures with their suites.
    theirs: the paper's row of a video model and a system.
    systems: the rows; () is every system that takes the users' queries. Those that
      have no prompts for one of the suites are left out.
  """
  if not columns:
    return None
  plain = systems or [name for name, row in results["systems"].items() if not row["of"]]
  rows = [name for name in plain if all(name in row["systems"] for _, row in columns)]
  if not rows:
    return None
  return {
    "model": model,
    "suites": list(dict.fromkeys(suite for suite, _ in columns)),
    "queries": {suite: row["queries"] for suite, row in columns},
    "columns": [
      {"name": row["name"], "suite": suite, "unit": row["unit"]}
      for suite, row in columns
    ],
    "rows": [
      {
        "system": name,
        "cells": [
          row["systems"][name] | {"paper": theirs(model, name).get(row["name"])}
          for _, row in columns
        ],
      }
      for name in rows
    ],
  }


def _long_prompts(
  results: Results,
  model: str,
  vbench: Sequence[tuple[str, Summary]],
  reference: paper.Reference,
) -> dict[str, Any] | None:
  """The systems that are files of prompts, and the last system (paper, table 5)."""
  systems = results["systems"]
  long = [n for n, row in systems.items() if row["source"].startswith("prompts ")]
  plain = [name for name, row in systems.items() if not row["of"]]
  if not long:
    return None
  last = [name for name in plain if name not in long][-1:]
  return _part(results, model, vbench, reference.long_prompts, [*long, *last])


def _iterations(
  results: Results,
  model: str,
  rewards: Sequence[tuple[str, Summary]],
  reference: paper.Reference,
) -> list[dict[str, Any]]:
  """A part for each system that has iterations, with the query itself as number 0."""
  of = {name: row["of"] for name, row in results["systems"].items()}
  first = next(iter(of))
  found = []
  for root in (name for name in of if not of[name] and name in of.values()):
    number = {first: 0, root: 1}
    for name, earlier in of.items():
      if earlier in number and earlier != first:
        number[name] = number[earlier] + 1

    def theirs(_: str, name: str, number=number) -> Mapping[str, float]:
      return reference.iteration(number[name])

    part = _part(results, model, rewards, theirs, list(number))
    if part:
      for row in part["rows"]:
        row["iteration"] = number[row["system"]]
      found.append(part)
  return found


def _levels(results: Results, model: str) -> dict[str, Any] | None:
  """The safety levels and the unsafe share (paper, figure 4)."""
  names = [f"level {k}" for k in range(1, len(levels.LEVELS) + 1)]
  columns = _find(results, "t2vsafety", [*names, measured.UNSAFE], model)
  part = _part(results, model, columns, lambda model, system: {})
  if part:
    part["by"] = columns[-1][1]["by"]
    part["differences"] = columns[-1][1]["differences"]
  return part


def _wins(results: Results, model: str) -> dict[str, Any] | None:
  """Pairs of systems by whose video has the higher reward (paper, figure 5)."""
  columns = [row for row in _rewards(results, model) if row[1]["name"] == "overall"]
  if not columns:
    return None
  ((suite, row),) = columns
  return {
    "model": model,
    "suites": [suite],
    "queries": {suite: row["queries"]},
    "pairs": row["differences"],
  }
