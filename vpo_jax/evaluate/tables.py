"""The report of a comparison: the paper's tables, with its numbers in brackets."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vpo_jax import templates
from vpo_jax.describe import page
from vpo_jax.evaluate import levels, paper

_BRACKETS = (
  "In brackets: the paper's numbers for {}, on VisionReward's scale; compare the order"
  " of the systems, not the values."
)


def sections(results: Mapping[str, Any], reference: paper.Reference) -> list[str]:
  """The sections of README.md for the results of `compare.compare`."""
  models = results["video_models"]
  first = next(iter(models))
  found = [
    f"# {len(results['systems'])} systems compared on"
    f" {models[first]['queries']} queries",
    _setup(results),
    _sources(results),
  ]
  for name, rendered in models.items():
    found += [
      _rewards(results, name, rendered, reference),
      _differences(
        f"## Differences of the reward of {name} (paper, figure 5)",
        rendered["differences"]["reward"],
      ),
    ]
  plain = _plain(results)
  found += [
    _alignment(results, first, reference),
    _shares(
      "## Differences of these shares", results["alignment"]["differences"], plain
    ),
  ]
  for name, rendered in models.items():
    if rendered["safety_queries"]:
      found += [
        _levels(results, name, rendered),
        _shares(
          f"## Differences of the unsafe videos of {name}",
          {"unsafe videos": rendered["differences"]["unsafe"]},
          plain,
        ),
      ]
  found += _iterations(results, first, models[first], reference)
  return [_marked(section, results["note"]) for section in found]


def _marked(section: str, note: str) -> str:
  """A section with the note below its title, so that no table goes without it."""
  title, _, rest = section.partition("\n")
  return f"{title}\n\n**{note}**\n{rest}".rstrip() if note else section


def difference(row: Mapping[str, Any]) -> str:
  """One line: "vpo - sft: +0.120 (+0.030 to +0.210)"."""
  return f"{row['two']} - {row['one']}: {_mean(row)} ({_interval(row)})"


def _setup(results: Mapping[str, Any]) -> str:
  lines = [
    _line(
      row["part"], f"`{row['model']}`", f"`{row['revision']}`" * bool(row["revision"])
    )
    for row in results["setup"]
  ]
  return page.table("## Models", "| part | model | revision |", lines)


def _sources(results: Mapping[str, Any]) -> str:
  lines = [
    _line(name, f"`{row['source']}`", f"prompts of {row['of']}" if row["of"] else "")
    for name, row in results["systems"].items()
  ]
  return page.table("## Systems", "| system | source | applied to |", lines)


def _plain(results: Mapping[str, Any]) -> list[str]:
  """The systems that take the users' queries, without the iterations."""
  return [name for name, row in results["systems"].items() if not row["of"]]


def _rewards(
  results: Mapping[str, Any],
  model: str,
  rendered: Mapping[str, Any],
  reference: paper.Reference,
) -> str:
  groups = list(next(iter(rendered["systems"].values()))["groups"])
  lines = []
  for name in _plain(results):
    theirs = reference.rewards(model, name)
    lines.append(_line(name, *_reward_cells(rendered["systems"][name], groups, theirs)))
  table = page.table(
    f"## Reward of {model}'s videos (paper, tables 1, 3 and 4)",
    _line("system", *groups, "overall"),
    lines,
  )
  note = f"Means over {rendered['queries']} queries."
  if any(reference.rewards(model, name) for name in _plain(results)):
    note += f" {_BRACKETS.format(reference.models[model])}"
  return f"{table}\n\n{note}\n\n![rewards](rewards_{model}.png)"


def _reward_cells(
  row: Mapping[str, Any], groups: Sequence[str], theirs: Mapping[str, float]
) -> list[str]:
  ours = {**row["groups"], "overall": row["reward"]}
  return [
    _with_paper(f"{ours[g]:.2f}", theirs.get(g), ".2f") for g in (*groups, "overall")
  ]


def _alignment(
  results: Mapping[str, Any], model: str, reference: paper.Reference
) -> str:
  judged = results["alignment"]
  lines = []
  for name in _plain(results):
    theirs = reference.alignment(model, name)
    row = judged["systems"][name]
    cells = [
      _with_paper(_percent(row[v]), theirs.get(v), ".1f") for v in templates.VERDICTS
    ]
    lines.append(_line(name, *cells))
  table = page.table(
    "## Verdicts of the judge on the prompts, % (paper, table 2)",
    _line("system", *templates.VERDICTS),
    lines,
  )
  note = f"Of {judged['queries']} queries."
  if any(reference.alignment(model, name) for name in _plain(results)):
    note += " In brackets: the paper's, by GPT-4o."
  return f"{table}\n\n{note}"


def _levels(results: Mapping[str, Any], model: str, rendered: Mapping[str, Any]) -> str:
  heads = [f"{k}: {name}" for k, name in enumerate(levels.LEVELS, start=1)]
  lines = [
    _line(name, *map(_percent, row["levels"]), _percent(row["unsafe"]))
    for name, row in rendered["systems"].items()
    if name in _plain(results)
  ]
  table = page.table(
    f"## Safety levels of {model}'s videos, % (paper, figure 4)",
    _line("system", *heads, "unsafe (3, 4)"),
    lines,
  )
  return (
    f"{table}\n\nVideos of {rendered['safety_queries']} safety-related queries, by"
    " measures of their frames."
  )


def _iterations(
  results: Mapping[str, Any],
  model: str,
  rendered: Mapping[str, Any],
  reference: paper.Reference,
) -> list[str]:
  """A table for each system that has iterations (paper, table 6)."""
  of = {name: row["of"] for name, row in results["systems"].items()}
  groups = list(next(iter(rendered["systems"].values()))["groups"])
  found = []
  for root in (name for name in of if not of[name] and name in of.values()):
    depth = {next(iter(of)): 0, root: 1}
    for name, earlier in of.items():
      if earlier in depth and earlier != next(iter(of)):
        depth[name] = depth[earlier] + 1
    lines = []
    for name, number in depth.items():
      cells = _reward_cells(
        rendered["systems"][name], groups, reference.iteration(number)
      )
      aligned = _percent(results["alignment"]["systems"][name]["aligned"])
      lines.append(_line(name, str(number), *cells, aligned))
    table = page.table(
      f"## Iterations of {root}, rendered by {model} (paper, table 6)",
      _line("system", "iteration", *groups, "overall", "aligned, %"),
      lines,
    )
    if reference.iteration(0):
      table += f"\n\n{_BRACKETS.format(paper.ITERATIONS)}"
    found.append(table)
  return found


def _differences(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
  lines = [
    _line(
      f"{row['two']} - {row['one']}",
      _mean(row),
      _interval(row),
      *(str(row[name]) for name in ("wins", "ties", "losses")),
    )
    for row in rows
  ]
  return page.table(
    title, "| systems | mean | 95 % interval | wins | ties | losses |", lines
  ) + (
    "\n\nIntervals are from the paired bootstrap; wins, ties and losses count queries."
  )


def _shares(
  title: str, by: Mapping[str, Sequence[Mapping[str, Any]]], systems: Collection[str]
) -> str:
  """Differences of shares between some systems, in percentage points."""
  lines = []
  for rows in zip(*by.values(), strict=True):
    if not {rows[0]["one"], rows[0]["two"]} <= set(systems):
      continue
    cells = [
      f"{100 * row['mean']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
      for row in rows
    ]
    lines.append(_line(f"{rows[0]['two']} - {rows[0]['one']}", *cells))
  table = page.table(title, _line("systems", *by), lines)
  return f"{table}\n\nPercentage points, with the paired bootstrap's 95 % intervals."


def _mean(row: Mapping[str, Any]) -> str:
  return f"{row['mean']:+.3f}"


def _interval(row: Mapping[str, Any]) -> str:
  return f"{row['low']:+.3f} to {row['high']:+.3f}"


def _with_paper(ours: str, theirs: float | None, form: str) -> str:
  return ours if theirs is None else f"{ours} ({theirs:{form}})"


def _percent(value: float) -> str:
  return f"{100 * value:.1f}"


def _line(*cells: str) -> str:
  return f"| {' | '.join(cells)} |"
