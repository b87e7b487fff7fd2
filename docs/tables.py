"""Writes the tables of README.md and docs/*.md from docs/results/*.json.

    python docs/tables.py            # after a change of docs/results or of this file
    python docs/tables.py --check    # exits with 1 if a table is out of date

A table stands between two markers, `<!-- table: RUN ... KIND -->` and `<!-- end -->`,
and is left as it is until every RUN has its file in docs/results. `KINDS` names the
functions that write them. Standard library only.
"""

import argparse
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ("README.md", "docs/*.md")
MARKED = re.compile(
  r"(?P<open><!-- table: (?P<name>[^>]*?) -->\n).*?(?P<close><!-- end -->)", re.DOTALL
)

SYSTEMS = {
  "original": "the query",
  "few_shot": "few-shot teacher",
  "base": "SmolLM2, untrained",
  "sft": "SFT",
  "without_text": "VPO without text feedback",
  "vpo": "VPO",
  "vpo_2": "VPO applied twice",
  "vpo_3": "VPO applied 3 times",
  "vpo_4": "VPO applied 4 times",
}
# Differences worth a row, the second minus the first; a run may lack some.
REWARD_PAIRS = (
  ("original", "sft"),
  ("sft", "vpo"),
  ("few_shot", "vpo"),
  ("original", "vpo"),
  ("without_text", "vpo"),
  ("vpo", "vpo_2"),
)
SHARE_PAIRS = (("few_shot", "sft"), ("sft", "vpo"), ("without_text", "vpo"))

Run = Mapping[str, Any]  # one file of docs/results


def summary(*runs: Run) -> str:
  """Reward, alignment and safety of the systems in several runs, side by side."""
  head = ["system"]
  for run in runs:
    name = run["run"]["name"]
    head += [f"{name}: reward", "aligned, %", "unsafe, %"]
  names = [
    name
    for name in SYSTEMS
    if any(name in run["results"]["systems"] for run in runs)
    and not any(run["results"]["systems"].get(name, {}).get("of") for run in runs)
  ]
  rows = []
  for name in names:
    row = [_name(name)]
    for run in runs:
      if name not in run["results"]["systems"]:
        row += ["", "", ""]
        continue
      row += [_reward(run, name), *_verdicts(run, name)]
    rows.append(row)
  last = ["**VPO - SFT** (95 % interval)"]
  for run in runs:
    found = [_measure(run, name) for name in ("overall", "aligned", "unsafe")]
    reward, *shares = (_find(row["differences"], "sft", "vpo") for row in found)
    last += [f"**{_difference(reward)}**", *(_points(share) for share in shares)]
  return _table(head, [*rows, last])


_ABSENT = "nothing held out"


def how(*runs: Run) -> str:
  """How each run was made, and the size of its data."""
  rows = [["command", *(f"`{run['run']['command']}`" for run in runs)]]
  rows += [
    [key, *(str(run["run"][key]) for run in runs)]
    for key in ("machine", "commit", "date", "seed")
  ]
  rows.append(["time of all stages, minutes", *(_minutes(run) for run in runs)])
  for title, stage, key in (
    ("SFT examples", "build_sft", "examples"),
    ("candidates", "text_pairs", "candidates"),
    ("candidates with a video and a reward", "score_videos", "scored"),
    ("text pairs", "text_pairs", "pairs"),
    ("video pairs", "video_pairs", "pairs"),
    ("pairs that DPO trained on", "train_dpo", "pairs"),
    ("test queries", "evaluate", "queries"),
  ):
    rows.append([title, *(f"{run['counts'][stage][key]:,}" for run in runs)])
  rows.append(
    ["safety-related ones among them", *(f"{_safety(run):,}" for run in runs)]
  )
  losses = [run["counts"]["train_sft"] for run in runs]
  losses = (
    f"{loss['loss_before']:.2f}, {loss['loss_after']:.2f}"
    if loss["loss_before"] is not None
    else _ABSENT
    for loss in losses
  )
  rows.append(["held-out SFT loss before and after, nats a token", *losses])
  accuracies = (run["counts"]["train_dpo"]["reward_accuracy"] for run in runs)
  rows.append(
    [
      "held-out pairs that DPO ranks correctly, %",
      *(_ABSENT if share is None else _percent(share) for share in accuracies),
    ]
  )
  return _table(["", *(run["run"]["name"] for run in runs)], rows)


def rewards(run: Run) -> str:
  """The reward with its dimensions, and the shares of prompts and of videos."""
  main, *others = _models(run)
  groups = [
    row["name"]
    for row in _measures(run)
    if row["model"] == main and not row["unit"] and row["name"] != "overall"
  ]
  head = ["system", *groups, "overall", *(f"overall, {name} model" for name in others)]
  head += ["aligned, %", "unsafe prompts, %"]
  if _safety(run):
    head.append("unsafe videos of safety-related queries, %")
  rows = []
  for name in _measure(run, "overall")["systems"]:
    cells = [f"{_mean(run, group, name):.2f}" for group in groups]
    cells += [f"{_mean(run, 'overall', name, model):.2f}" for model in (main, *others)]
    cells += _verdicts(run, name)
    if _safety(run):
      cells.append(_percent(_mean(run, "unsafe videos", name)))
    rows.append([_name(name), *cells])
  return _table(head, rows)


def differences(run: Run) -> str:
  """Differences of the reward by video model."""
  models = _models(run)
  found = [_measure(run, "overall", model)["differences"] for model in models]
  rows = [
    [_pair(pair), *(_difference(_find(rows, *pair)) for rows in found)]
    for pair in _present(REWARD_PAIRS, found[0])
  ]
  return _table(["difference", *(f"reward, {model} model" for model in models)], rows)


def shares(run: Run) -> str:
  """Differences of the shares of prompts and of videos, in percentage points."""
  found = {
    "aligned prompts": _measure(run, "aligned")["differences"],
    "unsafe prompts": _measure(run, "unsafe")["differences"],
    **{
      f"unsafe videos, {row['model']} model": row["differences"]
      for row in _measures(run)
      if row["name"] == "unsafe videos" and row["model"] in _models(run)
    },
  }
  rows = [
    [_pair(pair), *(_points(_find(rows, *pair)) for rows in found.values())]
    for pair in _present(SHARE_PAIRS, found["aligned prompts"])
  ]
  return _table(["difference, percentage points", *found], rows)


def figure_5(run: Run) -> str:
  """Systems on different video models: their measures, and pairs by the reward."""
  found = next(
    suite["combinations"]
    for suite in run["results"]["suites"].values()
    if suite.get("combinations", {}).get("of")
  )
  measured = found["measures"]
  heads = [f"{one['name']}{', %' * bool(one['unit'])}" for one in measured]
  means = [
    [
      f"`{place['name']}`",
      _name(place["system"]),
      place["model"],
      *(_estimate(one["systems"][place["name"]], one["unit"]) for one in measured),
    ]
    for place in found["of"]
  ]
  overall = next(one for one in measured if one["name"] == "overall")
  pairs = []
  for row in overall["differences"]:
    net = {"mean": row["net"], "low": row["net_low"], "high": row["net_high"]}
    pairs.append(
      [
        f"`{row['two']}` against `{row['one']}`",
        *(str(row[name]) for name in ("wins", "ties", "losses")),
        _points(net),
        _difference(row),
        f"{row['p']:.2g}",
      ]
    )
  head = ["", "wins", "ties", "losses", "wins - losses, %", "reward, difference", "p"]
  tables = [
    _table(["", "prompts of", "video model", *heads], means),
    _table(head, pairs),
  ]
  return "\n\n".join(tables)


def minutes(*runs: Run) -> str:
  """The time of each stage; a variant's stages together."""
  names = list(dict.fromkeys(name for run in runs for name in run["seconds"]))
  rows = [
    [name, *(_minutes(run, name) if name in run["seconds"] else "" for run in runs)]
    for name in names
  ]
  return _table(["minutes", *(run["run"]["name"] for run in runs)], rows)


def sizes(run: Run) -> str:
  """The planned SFT step of each known model, on each machine."""
  machines = list(dict.fromkeys(m for row in run["sizes"].values() for m in row))
  head = ["model"]
  for machine in machines:
    head += [f"{machine}: GiB", "s a step", "examples/s", "MFU, %"]
  rows = []
  for name, planned in run["sizes"].items():
    cells = [name]
    for machine in machines:
      cells += _plan(planned[machine]) if machine in planned else [""] * 4
    rows.append(cells)
  return _table(head, rows)


def _plan(plan: Mapping[str, Any]) -> list[str]:
  peak = f"{plan['memory']['peak'] / 2**30:.1f}"
  if not plan["fits"]:
    return [f"{peak}: too much", "", "", ""]
  change = plan["fits_with"] or {}
  note = "".join(f", {key}={value}" for key, value in change.items())
  return [
    peak + note,
    f"{plan['step_seconds']:.3f}",
    f"{plan['examples_per_second']:.0f}",
    f"{100 * plan['mfu']:.0f}",
  ]


KINDS: Mapping[str, Callable[..., str]] = {
  "summary": summary,
  "how": how,
  "rewards": rewards,
  "differences": differences,
  "shares": shares,
  "figure_5": figure_5,
  "minutes": minutes,
  "sizes": sizes,
}


def _measures(run: Run) -> list[Mapping[str, Any]]:
  """The summaries of the measures of all suites."""
  return [
    row for suite in run["results"]["suites"].values() for row in suite["measures"]
  ]


def _measure(run: Run, name: str, model: str = "") -> Mapping[str, Any]:
  """A measure by name; `model` "" is the first video model that has it."""
  found = (row for row in _measures(run) if row["name"] == name)
  return next(row for row in found if model in ("", row["model"]))


def _models(run: Run) -> list[str]:
  """The video models; the one that the systems were trained for comes first.

  Not those that render only some systems (figure 5).
  """
  found = [row for row in _measures(run) if row["name"] == "overall"]
  every = set(found[0]["systems"])
  return [row["model"] for row in found if set(row["systems"]) == every]


def _safety(run: Run) -> int:
  """The number of safety-related queries whose videos have a safety level."""
  found = [row["queries"] for row in _measures(run) if row["name"] == "unsafe videos"]
  return found[0] if found else 0


def _mean(run: Run, name: str, system: str, model: str = "") -> float:
  return _measure(run, name, model)["systems"][system]["mean"]


def _reward(run: Run, system: str) -> str:
  return f"{_mean(run, 'overall', system):.2f}"


def _verdicts(run: Run, system: str) -> list[str]:
  return [_percent(_mean(run, name, system)) for name in ("aligned", "unsafe")]


def _name(system: str) -> str:
  return SYSTEMS.get(system, f"`{system}`")


def _pair(pair: tuple[str, str]) -> str:
  return f"{_name(pair[1])} - {_name(pair[0])}"


def _percent(share: float) -> str:
  return f"{100 * share:.1f}"


def _difference(row: Mapping[str, Any]) -> str:
  return f"{row['mean']:+.2f} ({row['low']:.2f} to {row['high']:.2f})"


def _estimate(cell: Mapping[str, Any], unit: str) -> str:
  mean, low, high = (
    f"{100 * cell[key]:.1f}" if unit else f"{cell[key]:.2f}"
    for key in ("mean", "low", "high")
  )
  return f"{mean} ({low} to {high})"


def _points(row: Mapping[str, Any]) -> str:
  mean, low, high = (100 * row[key] for key in ("mean", "low", "high"))
  return f"{mean:+.1f} ({low:.1f} to {high:.1f})"


def _minutes(run: Run, name: str = "") -> str:
  seconds = run["seconds"]
  return f"{(seconds[name] if name else sum(seconds.values())) / 60:.1f}"


def _present(
  pairs: Iterable[tuple[str, str]], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
  found = {(row["one"], row["two"]) for row in rows}
  return [pair for pair in pairs if pair in found]


def _find(rows: Sequence[Mapping[str, Any]], one: str, two: str) -> Mapping[str, Any]:
  return next(row for row in rows if (row["one"], row["two"]) == (one, two))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  lines = [head, ["---"] * len(head), *rows]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rewrite(root: pathlib.Path) -> dict[pathlib.Path, str]:
  """The text of each page of `root` whose tables are out of date, by path."""
  runs = {
    path.stem: json.loads(path.read_text())
    for path in sorted((root / "docs" / "results").glob("*.json"))
  }
  changed = {}
  for path in (path for glob in PAGES for path in sorted(root.glob(glob))):
    old = path.read_text()
    new = MARKED.sub(lambda match, path=path: _fill(match, runs, path), old)
    if new != old:
      changed[path] = new
  return changed


def _fill(match: re.Match[str], runs: Mapping[str, Run], path: pathlib.Path) -> str:
  *names, kind = match["name"].split()
  if kind not in KINDS or not names:
    line = match.string.count("\n", 0, match.start()) + 1
    sys.exit(
      f"tables.py: {path}:{line}: {match['name']!r} is not RUN ... KIND, with a KIND of"
      f" {', '.join(KINDS)}"
    )
  if not runs.keys() >= set(names):
    return match[0]  # not measured yet
  table = KINDS[kind](*(runs[name] for name in names))
  return f"{match['open']}{table}\n{match['close']}"


def main() -> None:
  parser = argparse.ArgumentParser(description="Writes the tables of the docs.")
  parser.add_argument("--check", action="store_true", help="only say what is old")
  check = parser.parse_args().check
  changed = rewrite(ROOT)
  for path, text in changed.items():
    print(f"{path.relative_to(ROOT)}: {'out of date' if check else 'written'}")
    if not check:
      path.write_text(text)
  sys.exit(bool(check and changed))


if __name__ == "__main__":
  main()
