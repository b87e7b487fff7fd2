"""The results of a study, as results.json and as tables on the console."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table
from etils import epath

from vpo_jax import errors, files, json_input
from vpo_jax.evaluate import levels as levels_lib
from vpo_jax.evaluate.human import (
  agreement,
  answers,
  questions,
  statistics,
  strengths,
  study,
)
from vpo_jax.runtime import console

# The queries' classes, such as {"class": ["Gore"]}, by query id and label.
Labels = Mapping[str, Mapping[str, Sequence[str]]]


def compute(
  keys: Sequence[study.Key],
  paths: Sequence[epath.PathLike],
  *,
  judge: epath.PathLike = "",
  labels: Labels | None = None,
  draws: int = 10_000,
  seed: int = 0,
) -> dict[str, Any]:
  """The content of results.json.

  Args:
    keys: the study's key.
    paths: files of answers (`answers.read`).
    judge: of a study of levels, another judge's levels: JSON Lines of `video_id` and
      `level`; "" means none.
    labels: of a study of levels, the queries' classes, for results by class.
    draws: resamples of each bootstrap; a tenth of them for Bradley-Terry, whose model
      is fitted to each.
    seed: of the bootstraps.

  Raises:
    UserError: a file cannot be read or is of another study, or there are no answers.
  """
  given, counts = answers.read(paths, keys)
  if not given:
    raise errors.UserError(f"{', '.join(map(str, paths))}: no question is answered")
  items = {(answer.rater, answer.item) for answer in given}
  raters = collections.Counter(rater for rater, _ in sorted(items))
  found = {
    "study": keys[0].study,
    "kind": keys[0].kind,
    "items": len(keys),
    "raters": dict(raters),  # items of which they answered a question
    "answers": len(given),
    **counts,
  }
  options = {"draws": draws, "seed": seed}
  if keys[0].kind == "pairs":
    if judge:
      raise errors.UserError(f"{judge}: a judge's levels need a study of levels")
    preferences = answers.preferences(given, keys)
    return found | {
      "preferences": statistics.preferences(preferences, **options),
      "bradley_terry": strengths.bradley_terry(
        preferences, draws=max(1, draws // 10), seed=seed
      ),
      "agreement": agreement.preferences(preferences, **options),
    }
  levels = answers.levels(given, keys)
  found |= {
    "levels": statistics.levels(levels, **options),
    "agreement": agreement.levels(levels, **options),
    "by": {
      label: {
        value: statistics.levels(
          [one for one in levels if value in (labels or {})[one.query_id][label]],
          **options,
        )
        for value in values
      }
      for label, values in _classes(levels, labels or {}).items()
    },
  }
  if judge:
    people = agreement.majority(levels)
    found["judge"] = agreement.with_judge(people, _judged(judge), **options)
  return found


def _classes(levels: Sequence[answers.Level], labels: Labels) -> dict[str, list[str]]:
  """The classes that occur, by label."""
  found: dict[str, set[str]] = {}
  for one in levels:
    for label, values in labels.get(one.query_id, {}).items():
      found.setdefault(label, set()).update(values)
  return {label: sorted(values) for label, values in found.items()}


def _judged(path: epath.PathLike) -> dict[str, int]:
  """A judge's levels by video id; a video with level 0 was not judged."""
  found = {}
  levels = range(len(levels_lib.LEVELS) + 1)
  for row in json_input.rows(path):
    value: Any = row.value if isinstance(row.value, dict) else {}
    if value.get("level") not in levels or not isinstance(value.get("video_id"), str):
      raise errors.UserError(
        f"{path}: {row.place}: must have a video_id and a level, 1 to 4, or 0 for a"
        " video that was not judged"
      )
    if value["level"]:
      found[value["video_id"]] = int(value["level"])
  return found


def publish(
  folder: epath.PathLike,
  paths: Sequence[epath.PathLike],
  *,
  judge: epath.PathLike = "",
  draws: int = 10_000,
  seed: int = 0,
) -> dict[str, Any]:
  """Writes results.json to a study's folder and prints it; see `compute`.

  Raises:
    UserError: as `compute` raises it, or the folder has no study.
  """
  folder = epath.Path(folder)
  keys = study.read_key(folder / study.KEY)
  classes = folder / study.LABELS
  labels = json_input.value(classes) if classes.exists() else None
  found = compute(keys, paths, judge=judge, labels=labels, draws=draws, seed=seed)
  files.write_json(folder / "results.json", found)
  show(found)
  return found


def show(found: Mapping[str, Any]) -> None:
  """Prints the tables of the results."""
  console.say(
    f"{found['answers']} answers of {len(found['raters'])} raters to"
    f" {found['items']} items: "
    + ", ".join(f"{name} {items}" for name, items in found["raters"].items())
  )
  if left := ", ".join(
    f"{found[name]} {name}"
    for name in ("changed", "repeated", "unanswered", "cancelled")
    if found[name]
  ):
    console.say(f"set aside: {left}")
  pairs = found["kind"] == "pairs"
  for table in _pair_tables(found) if pairs else _level_tables(found):
    console.console.print(table)
  if pairs:
    console.say(
      "won : lost counts queries by the majority of their answers; p is of the exact"
      " sign test on them"
    )


def _pair_tables(found: Mapping[str, Any]) -> list[rich.table.Table]:
  names = {one.id: one.text for one in questions.QUESTIONS["pairs"]}
  order = list(names)
  by_pair: dict[tuple[str, str], rich.table.Table] = {}
  for row in sorted(found["preferences"], key=lambda row: order.index(row["question"])):
    pair = row["one"], row["two"]
    if pair not in by_pair:
      by_pair[pair] = _table(
        f"{pair[0]} against {pair[1]}, % of answers (paper, figure 3)",
        ("question", "win", "tie", "lose", "net (95 %)", "won : lost", "p"),
      )
    signs = row["sign_test"]
    by_pair[pair].add_row(
      names[row["question"]],
      *(f"{100 * row[name]['share']:.1f}" for name in ("wins", "ties", "losses")),
      _interval(row["net"], signed=True),
      f"{signs['wins']} : {signs['losses']}",
      "" if signs["p"] is None else f"{signs['p']:.1g}",
    )
  tables = list(by_pair.values())
  if any(len(row["systems"]) > 2 for row in found["bradley_terry"]):
    heads = ("question", "system", "strength (95 %)")
    rated = _table("Bradley-Terry strengths, log odds", heads, left=2)
    for row in sorted(found["bradley_terry"], key=lambda r: order.index(r["question"])):
      for name, strength in row["systems"].items():
        rated.add_row(names[row["question"]], name, _strength(strength))
    tables.append(rated)
  agreed = _table(
    "Agreement of raters, Krippendorff's alpha (nominal)",
    ("question", "alpha (95 %)", "pairs with two or more raters"),
  )
  for row in sorted(found["agreement"], key=lambda row: order.index(row["question"])):
    agreed.add_row(names[row["question"]], _alpha(row), str(row["units"]))
  return [*tables, agreed]


def _level_tables(found: Mapping[str, Any]) -> list[rich.table.Table]:
  heads = [f"{k}: {name}" for k, name in enumerate(levels_lib.LEVELS, start=1)]
  table = _table(
    "Safety levels, % of answers (paper, figure 4)",
    ("system", *heads, "unsafe: 3, 4 (95 %)", "queries"),
  )
  for row in found["levels"]:
    shares = (f"{100 * level['share']:.1f}" for level in row["levels"])
    table.add_row(row["system"], *shares, _interval(row["unsafe"]), str(row["queries"]))
  agreed = _table(
    "Agreement on levels", ("between", "measure", "value (95 %)", "videos"), left=2
  )
  raters = found["agreement"]
  agreed.add_row("raters", "alpha (ordinal)", _alpha(raters), str(raters["units"]))
  if judge := found.get("judge"):
    for name, title in (("kappa", "kappa"), ("kappa_weighted", "kappa (quadratic)")):
      value = "" if judge[name] is None else f"{judge[name]:.2f}"
      agreed.add_row("people and judge", title, value, str(judge["videos"]))
    agreed.add_row(
      "people and judge", "alpha (ordinal)", _alpha(judge), str(judge["videos"])
    )
  return [table, agreed]


def _table(title: str, heads: Sequence[str], left: int = 1) -> rich.table.Table:
  """An empty table; the first `left` columns hold texts, the others numbers."""
  table = rich.table.Table(
    title=title,
    title_justify="left",
    title_style="bold",
    box=rich.box.SIMPLE_HEAD,
    padding=(0, 1, 0, 0),
  )
  for k, head in enumerate(heads):
    table.add_column(head, justify="left" if k < left else "right", no_wrap=k >= left)
  return table


def _interval(row: Mapping[str, float], *, signed: bool = False) -> str:
  form = "+.1f" if signed else ".1f"
  share, low, high = (100 * row[key] for key in ("share", "low", "high"))
  return f"{share:{form}} ({low:{form}} to {high:{form}})"


def _alpha(row: Mapping[str, Any]) -> str:
  if row["alpha"] is None:
    return "not defined"
  return f"{row['alpha']:.2f} ({row['low']:.2f} to {row['high']:.2f})"


def _strength(row: Mapping[str, float | None]) -> str:
  if row["strength"] is None:
    return "no finite estimate"
  if row["low"] is None:
    return f"{row['strength']:+.2f} (interval unbounded)"
  return f"{row['strength']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
