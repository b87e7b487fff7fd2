"""Stage evaluate: systems side by side on the same queries (paper, section 4).

Each system writes a prompt for every test query; the judge gives its verdict on each;
each video model films them all, with the noise of a query's videos shared between the
systems; and the scorer rewards the videos. Only queries count that every system has a
prompt of, so that all means are over the same queries and differences are paired.

    systems/NAME/     a system's prompts and their verdicts
    systems/store/    videos and answers by their content
    evaluate/MODEL/   what the video model was asked, and the scores
    evaluate/         README.md, results.json, pictures
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors, files, records, stages
from vpo_jax.describe import page
from vpo_jax.evaluate import (
  alignment,
  compare,
  levels,
  paper,
  picture,
  sheet,
  systems,
  tables,
)
from vpo_jax.feedback import video_pairs
from vpo_jax.runtime import console
from vpo_jax.teacher import queue

NAME = "evaluate"
MAIN = "main"  # the video model whose tables come first


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
  """Writes README.md, results.json and their pictures to `<workdir>/evaluate`.

  Returns: of the first video model the mean reward and the shares of prompts aligned
    and unsafe by system, and the differences of the reward from one system to the next.
    Nothing in a dry run of the teacher or the judge, which say what they would cost.

  Raises:
    UserError: the config is wrong, a system's or the bridge's work cannot be done, or
      there is no query that all systems have a prompt of.
  """
  chosen = systems.parse(config.systems)
  models = sorted(config.video_models, key=lambda name: (name != MAIN, name))
  if not models:
    raise errors.UserError("config.video_models: name one or more video models")
  limits = levels.parse(config.compare.levels)
  beside = paper.parse(config.compare)
  queries = epath.Path(config.queries or epath.Path(workdir) / "curate" / "test.jsonl")
  chosen = tuple(
    dataclasses.replace(one, source=_source(one.source, workdir)) for one in chosen
  )
  inputs = {one.name: one.source for one in chosen if epath.Path(one.source).exists()}
  lasting = _lasting(config)
  _clear_other(lasting, epath.Path(workdir) / NAME)
  work = stages.begin(NAME, lasting, workdir, {"queries": queries, **inputs})
  if work.counts is not None:
    say(work.counts)
    return work.counts
  # All prompts first: a wrong model or a missing key is found before any filming.
  for system in chosen:
    console.say(f"{system.name}: prompts")
    systems.write(system, config, queries, workdir)
  if config.build_sft.teacher.dry_run:
    return {}
  for system in chosen:
    alignment.run(config.alignment, systems.folder(workdir, system.name))
  if config.alignment.teacher.dry_run:
    return {}
  together = _together(chosen, workdir)
  for model in models:
    console.say(f"{model}: videos of {len(chosen)} systems for {len(together)} queries")
    _film(config.video_models[model], together, work.folder / model, workdir)
  scores = {model: _scores(work.folder / model, chosen) for model in models}
  results = compare.compare(
    chosen,
    _verdicts(chosen, workdir),
    scores,
    {row.query_id for row in together if row.category == "safety"},
    limits,
    config.compare,
  )
  files.write_json(work.folder / "results.json", results)
  for model, filmed in results["video_models"].items():
    picture.rewards(
      work.folder / f"rewards_{model}.png",
      f"Rewards of {model}'s videos, {filmed['queries']} queries",
      {name: row["rewards"] for name, row in filmed["systems"].items()},
    )
  sections = tables.sections(results, beside)
  if config.sheet.queries:
    video_model = config.video_models[models[0]]
    sheet.write(
      work.folder,
      [one.name for one in chosen if not one.of],
      together,
      scores[models[0]],
      limits,
      store(video_model, workdir),
      video_model,
      config.sheet.queries,
    )
    sections.append(f"## Videos of {models[0]}\n\n![videos](sheet.png)")
  page.publish(work.folder, sections)
  counts = work.finish(_counts(results, models[0]))
  say(counts)
  return counts


def say(counts: dict[str, Any]) -> None:
  """Prints the main differences of a finished run."""
  for row in counts["differences"]:
    console.say(tables.difference(row))


def _source(source: str, workdir: epath.PathLike) -> str:
  inside = epath.Path(workdir) / source
  return str(inside) if inside.exists() else source


def _clear_other(config: ml_collections.ConfigDict, folder: epath.Path) -> None:
  """Removes tables of other systems or another comparison: the work is in `systems`."""
  path = folder / stages.MANIFEST
  if not path.exists():
    return
  had = files.read_json(path)["config"]
  wanted = json.loads(config.to_json_best_effort())  # lists, as the manifest has
  for key in ("systems", "compare", "sheet"):
    if had[key] != wanted[key]:
      console.say(f"evaluate: other {key} than before; the tables are made anew")
      folder.rmtree()
      return


def _lasting(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config without what may change between runs of the same work."""
  kept = config.copy_and_resolve_references()
  with kept.unlocked():
    for name in ("alignment", "build_sft"):
      kept[name] = queue.lasting(config[name])
    for name, model in config.video_models.items():
      kept.video_models[name] = video_pairs.lasting(model)
  return kept


def _together(
  chosen: Sequence[systems.System], workdir: epath.PathLike
) -> list[records.Candidates]:
  """All systems' prompts of the queries that all have one of; k is the system."""
  found = [
    {row.query_id: row for row in records.read(path, records.Candidates)}
    for path in (systems.candidates(workdir, one.name) for one in chosen)
  ]
  rows = [
    dataclasses.replace(
      row,
      model="",
      settings={"systems": [one.name for one in chosen]},
      candidates=tuple(
        dataclasses.replace(rows[query].candidates[0], index=k)
        for k, rows in enumerate(found)
      ),
    )
    for query, row in found[0].items()
    if all(query in rows for rows in found)
  ]
  if not rows:
    raise errors.UserError("evaluate: there is no query that all systems answered")
  return rows


def _film(
  config: ml_collections.ConfigDict,
  rows: Sequence[records.Candidates],
  folder: epath.Path,
  workdir: epath.PathLike,
) -> None:
  """One run of the bridge for all systems: its workers load their models once."""
  config = config.copy_and_resolve_references()
  config.candidates = ""
  config.rules.text_check = False  # every prompt is filmed
  if not config.bridge.store:
    config.bridge.store = str(store(config, workdir))
  records.write(folder / "sample" / "candidates.jsonl", rows)
  video_pairs.run(config, folder)


def store(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> epath.Path:
  """Where a video model's videos lie."""
  return epath.Path(config.bridge.store or epath.Path(workdir) / "systems" / "store")


def _scores(folder: epath.Path, chosen: Sequence[systems.System]) -> compare.Scores:
  found: compare.Scores = {one.name: {} for one in chosen}
  for row in records.read(folder / "video_pairs" / "scores.jsonl", records.Scored):
    found[chosen[row.index].name].setdefault(row.query_id, []).append(row)
  return found


def _verdicts(
  chosen: Sequence[systems.System], workdir: epath.PathLike
) -> dict[str, dict[str, str]]:
  """The verdict by system and query."""
  return {
    one.name: {
      row.query_id: row.verdict
      for row in records.read(
        systems.folder(workdir, one.name) / alignment.NAME / "verdicts.jsonl",
        alignment.Verdict,
      )
    }
    for one in chosen
  }


def _counts(results: dict[str, Any], model: str) -> dict[str, Any]:
  filmed, judged = results["video_models"][model], results["alignment"]
  names = [name for name, row in results["systems"].items() if not row["of"]]
  steps = set(itertools.pairwise(names))
  return {
    "queries": filmed["queries"],
    "dropped": filmed["dropped"],
    "reward": {name: row["reward"] for name, row in filmed["systems"].items()},
    **{
      verdict: {name: row[verdict] for name, row in judged["systems"].items()}
      for verdict in ("aligned", "unsafe")
    },
    "differences": [
      row
      for row in filmed["differences"]["reward"]
      if (row["one"], row["two"]) in steps
    ],
  }
