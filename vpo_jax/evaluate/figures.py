"""The paper's figures as tables: preferences, safety levels, pairs by reward."""

from collections.abc import Mapping, Sequence

from vpo_jax.describe import page
from vpo_jax.evaluate import cells, levels
from vpo_jax.evaluate.cells import Row


def levels_of_videos(part: Row) -> str:
  """Figure 4: the safety levels, and the unsafe share of each class."""
  heads = [column["name"] for column in part["columns"]]
  lines = [
    cells.line(row["system"], *(cells.cell(cell, "%") for cell in row["cells"]))
    for row in part["rows"]
  ]
  table = page.table(
    f"## Safety levels of {part['model']}'s videos, % (paper, figure 4)",
    cells.line("system", *heads),
    lines,
  )
  note = f"Means with 95 % intervals. {cells.query_counts(part)}"
  names = [row["system"] for row in part["rows"]]
  classes = by_label("Unsafe videos", part["by"], names, "%")
  return "\n\n".join([table, note, *classes])


def wins(part: Row) -> str:
  """Figure 5: whose video has the higher reward."""
  (count,) = part["queries"].values()
  lines = [
    cells.line(
      f"{row['two']} against {row['one']}",
      *(f"{100 * row[key] / count:.1f}" for key in ("wins", "ties", "losses")),
      f"{100 * row['net']:+.1f}",
      f"{100 * row['net_low']:+.1f} to {100 * row['net_high']:+.1f}",
    )
    for row in part["pairs"]
  ]
  table = page.table(
    f"## Pairs of {part['model']}'s videos by reward, % (paper, figure 5)",
    "| systems | wins | ties | losses | wins - losses | 95 % interval |",
    lines,
  )
  note = f"{cells.query_counts(part)} The video with the higher reward wins."
  if "combinations" not in part:
    return f"{table}\n\n{note}"
  heads = [f"{one['name']}{', %' * bool(one['unit'])}" for one in part["columns"]]
  places = {one["name"]: one for one in part["combinations"]}
  means = page.table(
    "Means with 95 % intervals:",
    cells.line("systems", "prompts of", "video model", *heads),
    [
      cells.line(
        row["system"],
        places[row["system"]]["system"],
        places[row["system"]]["model"],
        *(
          cells.cell(cell, column["unit"])
          for cell, column in zip(row["cells"], part["columns"], strict=True)
        ),
      )
      for row in part["rows"]
    ],
  )
  return f"{table}\n\n{note}\n\n{means}"


def preferences(part: Row) -> str:
  """Figure 3: which system's videos people prefer."""
  lines = [
    cells.line(
      row["question"].replace("_", " "),
      f"{row['one']} against {row['two']}",
      *(f"{100 * row[name]['share']:.1f}" for name in ("wins", "ties", "losses")),
      f"{100 * row['net']['share']:+.1f}",
      f"{100 * row['net']['low']:+.1f} to {100 * row['net']['high']:+.1f}",
      "" if row["sign_test"]["p"] is None else f"{row['sign_test']['p']:.2g}",
    )
    for row in part["preferences"]
  ]
  table = page.table(
    f"## People's preferences, {part['study']}, % (paper, figure 3)",
    "| question | systems | wins | ties | losses | wins - losses | 95 % interval | p |",
    lines,
  )
  return (
    f"{table}\n\n{cells.pairs_agreement(part)} p is of the exact sign test on queries."
  )


def people_levels(part: Row) -> str:
  """Figure 4 by people."""
  lines = [
    cells.line(
      row["system"],
      *(f"{100 * level['share']:.1f}" for level in row["levels"]),
      cells.share(row["unsafe"]),
    )
    for row in part["levels"]
  ]
  heads = [f"level {k}" for k in range(1, len(levels.LEVELS) + 1)]
  table = page.table(
    f"## Safety levels by people, {part['study']}, % (paper, figure 4)",
    cells.line("system", *heads, "unsafe videos"),
    lines,
  )
  found = [table]
  for label, values in part["by"].items():
    names = [row["system"] for row in part["levels"]]
    rows = []
    for value, of in values.items():
      unsafe = {row["system"]: cells.share(row["unsafe"]) for row in of}
      rows.append(cells.line(value, *(unsafe.get(name, "") for name in names)))
    found.append(
      page.table(f"Unsafe videos by {label}, %:", cells.line(label, *names), rows)
    )
  return "\n\n".join([*found, cells.levels_agreement(part)])


def by_label(
  what: str, by: Mapping[str, Row], names: Sequence[str], unit: str
) -> list[str]:
  """A table for each label that has several values."""
  found = []
  for label, values in by.items():
    rows = [
      cells.line(
        value,
        str(one["queries"]),
        *(cells.cell(one["systems"][name] | {"paper": None}, unit) for name in names),
      )
      for value, one in values.items()
    ]
    if len(rows) > 1:
      head = cells.line(label, "queries", *names)
      found.append(page.table(f"{what} by {label}{', %' * bool(unit)}:", head, rows))
  return found


BY_NUMBER = {
  "3": preferences,
  "4": lambda part: people_levels(part) if "study" in part else levels_of_videos(part),
  "5": wins,
}
