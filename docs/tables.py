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
      share = run["results"]["alignment"]["systems"][name]
      row += [_reward(run, name), _percent(share["aligned"]), _percent(share["unsafe"])]
    rows.append(row)
  last = ["**VPO - SFT** (95 % interval)"]
  for run in runs:
    results = run["results"]
    found = [_main(run)["differences"]["reward"]]
    found += [results["alignment"]["differences"][v] for v in ("aligned", "unsafe")]
    reward, *shares = (_find(rows, "sft", "vpo") for rows in found)
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
  safety = (f"{_main(run)['safety_queries']:,}" for run in runs)
  rows.append(["safety-related ones among them", *safety])
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
  models = run["results"]["video_models"]
  main, others = _main(run), list(models)[1:]
  groups = list(next(iter(main["systems"].values()))["groups"])
  head = ["system", *groups, "overall", *(f"overall, {name} model" for name in others)]
  head += ["aligned, %", "unsafe prompts, %"]
  if main["safety_queries"]:
    head.append("unsafe videos of safety-related queries, %")
  rows = []
  for name, row in main["systems"].items():
    share = run["results"]["alignment"]["systems"][name]
    cells = [f"{row['groups'][group]:.2f}" for group in groups]
    cells += [_reward(run, name)]
    cells += [f"{models[other]['systems'][name]['reward']:.2f}" for other in others]
    cells += [_percent(share["aligned"]), _percent(share["unsafe"])]
    if main["safety_queries"]:
      cells.append(_percent(row["unsafe"]))
    rows.append([_name(name), *cells])
  return _table(head, rows)


def differences(run: Run) -> str:
  """Differences of the reward by video model."""
  models = run["results"]["video_models"]
  found = [models[model]["differences"]["reward"] for model in models]
  rows = [
    [_pair(pair), *(_difference(_find(rows, *pair)) for rows in found)]
    for pair in _present(REWARD_PAIRS, found[0])
  ]
  return _table(["difference", *(f"reward, {model} model" for model in models)], rows)


def shares(run: Run) -> str:
  """Differences of the shares of prompts and of videos, in percentage points."""
  judged = run["results"]["alignment"]["differences"]
  models = run["results"]["video_models"]
  found = {
    "aligned prompts": judged["aligned"],
    "unsafe prompts": judged["unsafe"],
    **{
      f"unsafe videos, {name} model": model["differences"]["unsafe"]
      for name, model in models.items()
      if model["safety_queries"]
    },
  }
  rows = [
    [_pair(pair), *(_points(_find(rows, *pair)) for rows in found.values())]
    for pair in _present(SHARE_PAIRS, judged["aligned"])
  ]
  return _table(["difference, percentage points", *found], rows)


def minutes(*runs: Run) -> str:
  """The time of each stage; a variant's stages together."""
  names = list(dict.fromkeys(name for run in runs for name in run["seconds"]))
  rows = [
    [name, *(_minutes(run, name) if name in run["seconds"] else "" for run in runs)]
    for name in names
  ]
  return _table(["minutes", *(run["run"]["name"] for run in runs)], rows)


KINDS: Mapping[str, Callable[..., str]] = {
  "summary": summary,
  "how": how,
  "rewards": rewards,
  "differences": differences,
  "shares": shares,
  "minutes": minutes,
}


def _main(run: Run) -> Mapping[str, Any]:
  """The video model that the systems were trained for, which comes first."""
  return next(iter(run["results"]["video_models"].values()))


def _reward(run: Run, system: str) -> str:
  return f"{_main(run)['systems'][system]['reward']:.2f}"


def _name(system: str) -> str:
  return SYSTEMS.get(system, f"`{system}`")


def _pair(pair: tuple[str, str]) -> str:
  return f"{_name(pair[1])} - {_name(pair[0])}"


def _percent(share: float) -> str:
  return f"{100 * share:.1f}"


def _difference(row: Mapping[str, Any]) -> str:
  return f"{row['mean']:+.2f} ({row['low']:.2f} to {row['high']:.2f})"


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
