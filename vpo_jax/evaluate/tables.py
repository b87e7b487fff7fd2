"""The page of an evaluation: the paper's tables, with its numbers in brackets."""

from vpo_jax.describe import page
from vpo_jax.evaluate import cells, figures, gain_tables, paper, suites
from vpo_jax.evaluate.cells import Results, Row
from vpo_jax.evaluate.suites import measured

_BRACKETS = (
  "In brackets: the paper's numbers for {}, on VisionReward's scale; compare the order"
  " of the systems, not the values."
)
TITLES = {
  "1": "Videos of {model}",
  "2": "Verdicts of the judge on the prompts",
  "3": "VBench, videos of {model}",
  "4": "Reward of {model}'s videos",
  "5": "Published long prompts, videos of {model}",
  "6": "Iterations, videos of {model}",
}
_SIGNIFICANT = 0.05
# The measures about which the page makes claims, in words.
_QUANTITIES = {
  measured.OVERALL: "mean reward of {model}'s videos",
  measured.UNSAFE: "share of unsafe videos of {model}",
  "aligned": "share of aligned prompts",
  "unsafe": "share of unsafe prompts",
}
SHOWN = (
  f"A difference is called shown if its p-value is below {_SIGNIFICANT}: a paired"
  " permutation test over queries, corrected (Holm) for the number of pairs of systems."
)


def sections(results: Results, reference: paper.Reference) -> list[str]:
  """The sections of README.md for the content of results.json."""
  queries = sum(suite["queries"] for suite in results["suites"].values())
  found = [
    f"# {len(results['systems'])} systems compared on {queries} queries",
    _setup(results),
    _sources(results),
    _suites(results),
    _claims(results),
  ]
  for number, parts in results["tables"].items():
    found += [_table(number, part, reference) for part in parts]
  for number, parts in results["figures"].items():
    found += [figures.BY_NUMBER[number](part) for part in parts]
  found += _prompts(results)
  found += gain_tables.sections(results)
  found += _rewards_by_label(results)
  for suite, one in results["suites"].items():
    found += [
      _differences(suites.ALL[suite].title, row)
      for row in one["measures"]
      if row["name"] in _QUANTITIES
    ]
  return [_marked(section, results["note"]) for section in found]


def _marked(section: str, note: str) -> str:
  """A section with the note below its title, so that no table goes without it."""
  title, _, rest = section.partition("\n")
  return f"{title}\n\n**{note}**\n{rest}".rstrip() if note else section


def difference(row: Row) -> str:
  """One line: "vpo - sft: +0.120 (+0.030 to +0.210)"."""
  return (
    f"{row['two']} - {row['one']}: {row['mean']:+.3f}"
    f" ({row['low']:+.3f} to {row['high']:+.3f})"
  )


def _setup(results: Results) -> str:
  lines = [
    cells.line(
      row["part"], f"`{row['model']}`", f"`{row['revision']}`" * bool(row["revision"])
    )
    for row in results["setup"]
  ]
  return page.table("## Models", "| part | model | revision |", lines)


def _sources(results: Results) -> str:
  lines = [
    cells.line(
      name, f"`{row['source']}`", f"prompts of {row['of']}" if row["of"] else ""
    )
    for name, row in results["systems"].items()
  ]
  return page.table("## Systems", "| system | source | applied to |", lines)


def _suites(results: Results) -> str:
  lines = [
    cells.line(name, row["title"], _number(row), ", ".join(row["systems"]))
    for name, row in results["suites"].items()
  ]
  return page.table("## Suites", "| suite | queries of | number | systems |", lines)


def _number(suite: Row) -> str:
  """How many queries a suite has, lack a system's prompt, and were trained on."""
  dropped = f", {suite['dropped']} of them dropped" if suite["dropped"] else ""
  seen = suite["in_training"]
  trained = f", {seen} of them training queries" if seen else ""
  return f"{suite['queries']}{dropped}{trained}"


def claims(results: Results) -> list[str]:
  """What the run shows about its last system, and what it does not, in sentences.

  Systems on different video models (figure 5) are all compared, by the reward. First
  come the pairs of any systems in which reward is gained by losing alignment.
  """
  plain = {name for name, row in results["systems"].items() if not row["of"]}
  lines = gain_tables.findings(results)
  for suite, one in results["suites"].items():
    title = suites.ALL[suite].title
    for row in one["measures"]:
      if row["name"] in _QUANTITIES:
        last = [name for name in row["systems"] if name in plain][-1:]
        what = _QUANTITIES[row["name"]].format(model=row["model"])
        chosen = [pair for pair in row["differences"] if [pair["two"]] == last]
        lines += [_claim(what, title, row, pair) for pair in chosen]
    for row in one.get("combinations", {}).get("measures", ()):
      if row["name"] == measured.OVERALL:
        what = "mean reward (figure 5)"
        lines += [_claim(what, title, row, pair) for pair in row["differences"]]
  return lines


def _claims(results: Results) -> str:
  lines = "\n".join(f"- {line}" for line in claims(results))
  text = lines or "Nothing: no pair was compared."
  return f"## What is shown\n\n{text}\n\n{SHOWN}"


def _claim(what: str, title: str, row: Row, pair: Row) -> str:
  """A sentence on the difference of a measure between two systems."""
  size = cells.value(pair["mean"], row["unit"], signed=True)
  points = " percentage points" if row["unit"] else ""
  number = f"{size}{points}, p = {pair['p']:.2g}, {row['queries']} queries of {title}"
  if pair["p"] < _SIGNIFICANT:
    higher = "higher" if pair["mean"] > 0 else "lower"
    return (
      f"Shown: the {what} is {higher} for {pair['two']} than for {pair['one']}"
      f" ({number})."
    )
  return (
    f"Not shown: that the {what} differs between {pair['two']} and {pair['one']}"
    f" ({number})."
  )


def _table(number: str, part: Row, reference: paper.Reference) -> str:
  heads = [f"{c['name']}{', %' * bool(c['unit'])}" for c in part["columns"]]
  iterated = number == "6"
  lines = [
    cells.line(
      row["system"],
      *([str(row["iteration"])] if iterated else []),
      *(
        cells.cell(cell, column["unit"])
        for cell, column in zip(row["cells"], part["columns"], strict=True)
      ),
    )
    for row in part["rows"]
  ]
  title = TITLES[number].format(model=part["model"])
  table = page.table(
    f"## {title} (paper, table {number})",
    cells.line("system", *(["iteration"] if iterated else []), *heads),
    lines,
  )
  return f"{table}\n\n{note(number, part, reference)}"


def note(number: str, part: Row, reference: paper.Reference) -> str:
  """The line below a table: its queries, and where the numbers in brackets are from."""
  lines = f"Means with 95 % intervals. {cells.query_counts(part)}"
  if any(cell["paper"] is not None for row in part["rows"] for cell in row["cells"]):
    iterated = number == "6"
    model = paper.ITERATIONS if iterated else reference.models.get(part["model"], "")
    lines += (
      " In brackets: the paper's, by GPT-4o."
      if number == "2"
      else f" {_BRACKETS.format(model)}"
    )
  return lines


def _prompts(results: Results) -> list[str]:
  """The length and the self-BLEU of each system's prompts, for each suite."""
  found = []
  for suite, one in results["suites"].items():
    names = (measured.WORDS, measured.SELF_BLEU)
    columns = [row for row in one["measures"] if row["name"] in names]
    if columns:
      lines = [
        cells.line(
          name,
          *(cells.cell(c["systems"][name] | {"paper": None}, "") for c in columns),
        )
        for name in columns[0]["systems"]
      ]
      title = f"## Length and diversity of the prompts, {suites.ALL[suite].title}"
      head = cells.line("system", *(column["name"] for column in columns))
      note = (
        f"Means with 95 % intervals, {columns[0]['queries']} queries. Self-BLEU is the"
        " similarity of a prompt to its system's others, from 0 to 1."
      )
      found.append(f"{page.table(title, head, lines)}\n\n{note}")
  return found


def _rewards_by_label(results: Results) -> list[str]:
  """The mean reward of each class of queries, such as MonetBench's challenges."""
  found = []
  for suite, one in results["suites"].items():
    for row in one["measures"]:
      if row["name"] != measured.OVERALL:
        continue
      names = [n for n in row["systems"] if not results["systems"][n]["of"]]
      classes = figures.by_label("Mean reward", row["by"], names, row["unit"])
      if classes:
        title = (
          f"## Rewards of {row['model']}'s videos by class, {suites.ALL[suite].title}"
        )
        found.append("\n\n".join([title, *classes]))
  return found


def _differences(title: str, row: Row) -> str:
  unit = row["unit"]
  lines = [
    cells.line(
      f"{one['two']} - {one['one']}",
      cells.value(one["mean"], unit, signed=True),
      " to ".join(cells.value(one[key], unit, signed=True) for key in ("low", "high")),
      f"{one['p']:.2g}",
      *(str(one[name]) for name in ("wins", "ties", "losses")),
    )
    for one in row["differences"]
  ]
  quantity = _QUANTITIES[row["name"]].format(model=row["model"])
  points = ", percentage points" if unit else ""
  table = page.table(
    f"## Differences of the {quantity}{points}",
    "| systems | mean | 95 % interval | p | more | same | less |",
    lines,
  )
  return (
    f"{table}\n\n{row['queries']} queries of {title}. Intervals are from the paired"
    " bootstrap; more, same and less count queries."
  )
