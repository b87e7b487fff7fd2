"""Stage evaluate: systems compared on the same queries (paper, section 4).

Each system writes a prompt for every test query; the judge gives a verdict on each
prompt; each video model renders all prompts, with the same noise for all prompts of a
query; and the scorer rewards the videos. Only queries for which every system has a
prompt are counted, so all means are over the same queries and differences are paired.

    systems/NAME/     a system's prompts and their verdicts
    store/            videos and scores by content, shared with the other stages
    evaluate/MODEL/   the prompts that a video model rendered, and their scores
    evaluate/         README.md, results.json, pictures
"""

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
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
  setup,
  sheet,
  systems,
  tables,
)
from vpo_jax.feedback import bridge, score_videos
from vpo_jax.runtime import console
from vpo_jax.sample import candidates as sample
from vpo_jax.teacher import queue

MAIN = "main"  # the video model whose tables come first


def run(work: stages.Work) -> stages.Counts | stages.Unfinished:
  """Writes README.md, results.json and their pictures.

  Returns: for the first video model the mean reward and the shares of prompts that are
    aligned and unsafe, by system, and the reward's difference from each system to the
    next. A dry run of the teacher or the judge estimates their cost instead.

  Raises:
    UserError: the config is wrong, a system's or the bridge's work cannot be done, or
      there is no query for which all systems have a prompt.
  """
  config, root = work.config, work.root
  chosen = _systems(config, root)
  models = _video_models(config)
  limits = levels.parse(config.compare.levels)
  reference = paper.parse(config.compare, setup.paper_models(config, models))
  # All prompts first, so that a wrong model or a missing key stops the run early.
  by_name = {one.name: one for one in chosen}
  for system in chosen:
    console.say(f"{system.name}: prompts")
    earlier = by_name[system.of] if system.of else None
    systems.write(system, config, work.inputs["queries"], earlier, root)
  if config.build_sft.teacher.dry_run:
    return stages.Unfinished({})
  for system in chosen:
    _judge(system, config.alignment, root)
  if config.alignment.teacher.dry_run:
    return stages.Unfinished({})
  rows = _common_rows(chosen, root)
  scores = {}
  for model in models:
    console.say(f"{model}: videos of {len(chosen)} systems for {len(rows)} queries")
    scores[model] = _score(model, config.video_models[model], rows, chosen, work)
  safety = {row.query_id for row in rows if row.category == "safety"}
  verdicts = _verdicts(chosen, root)
  results = compare.compare(chosen, verdicts, scores, safety, limits, config.compare)
  for one in systems.parse(config.systems):  # as the user wrote it, not as a full path
    results["systems"][one.name]["source"] = one.source
  described = {"note": config.note, "setup": setup.describe(config, chosen, root)}
  results = described | results
  files.write_json(work.folder / "results.json", results)
  for model, rendered in results["video_models"].items():
    picture.rewards(
      work.folder / f"rewards_{model}.png",
      f"Rewards of {model}'s videos, {rendered['queries']} queries",
      {name: row["rewards"] for name, row in rendered["systems"].items()},
    )
  sections = tables.sections(results, reference)
  if config.sheet.queries:
    first = models[0]
    sheet.write(
      work,
      [one.name for one in chosen if not one.of],
      rows,
      scores[first],
      limits,
      config.video_models[first],
    )
    sections.append(f"## Videos of {first}\n\n![videos](sheet.png)")
  page.publish(work.folder, sections)
  counts = _counts(results, models[0])
  for row in counts["differences"]:
    console.say(tables.difference(row))
  return counts


def _systems(
  config: ml_collections.ConfigDict, root: epath.Path
) -> tuple[systems.System, ...]:
  """The config's systems, with the paths of files and folders of the workdir."""

  def find(name: str) -> str:
    return str(root / name) if name and (root / name).exists() else name

  return tuple(
    dataclasses.replace(one, source=find(one.source), instruction=find(one.instruction))
    for one in systems.parse(config.systems)
  )


def _video_models(config: ml_collections.ConfigDict) -> list[str]:
  """The video models that the config names, the main one first."""
  ordered = sorted(config.video_models, key=lambda name: (name != MAIN, name))
  models = [name for name in ordered if setup.is_named(config.video_models[name])]
  if not models:
    raise errors.UserError(
      "config.video_models: name a video model, such as"
      f" --config.video_models.{MAIN}.renderer.preset=cogvideox-2b"
    )
  for name in set(ordered) - set(models):
    console.say(f"evaluate: video model {name} is skipped: it names no renderer")
  for name in models:
    bridge.check(config.video_models[name])
  return models


def _judge(
  system: systems.System, config: ml_collections.ConfigDict, root: epath.Path
) -> None:
  named = config.copy_and_resolve_references()
  named.candidates = str(systems.candidates(root, system))
  stages.run(alignment.STAGE, named, systems.folder(root, system.name), root)


def _common_rows(
  chosen: Sequence[systems.System], root: epath.Path
) -> list[records.Candidates]:
  """The queries for which all systems have a prompt; candidate k is system k's."""
  by_system = [
    {row.query_id: row for row in records.read(path, records.Candidates)}
    for path in (systems.candidates(root, one) for one in chosen)
  ]
  rows = [
    dataclasses.replace(
      row,
      model="",
      settings={"systems": [one.name for one in chosen]},
      candidates=tuple(
        dataclasses.replace(rows[query].candidates[0], index=k)
        for k, rows in enumerate(by_system)
      ),
    )
    for query, row in by_system[0].items()
    if all(query in rows for rows in by_system)
  ]
  if not rows:
    raise errors.UserError("evaluate: no query has a prompt from every system")
  return rows


def _score(
  model: str,
  config: ml_collections.ConfigDict,
  rows: Sequence[records.Candidates],
  chosen: Sequence[systems.System],
  work: stages.Work,
) -> compare.Scores:
  """Renders and scores all systems' prompts; the bridge loads its models once."""
  folder = work.folder / model
  prompts = folder / "prompts.jsonl"
  records.write(prompts, rows)
  named = config.copy_and_resolve_references()
  named.update(candidates=str(prompts), text_check=False)
  stages.run(score_videos.STAGE, named, folder, work.root)
  scores: compare.Scores = {one.name: {} for one in chosen}
  path = folder / score_videos.STAGE.name / "scores.jsonl"
  for row in records.read(path, records.Scored):
    scores[chosen[row.index].name].setdefault(row.query_id, []).append(row)
  return scores


def _verdicts(
  chosen: Sequence[systems.System], root: epath.Path
) -> dict[str, dict[str, str]]:
  """The verdict by system and query."""
  name = alignment.STAGE.name
  return {
    one.name: {
      row.query_id: row.verdict
      for row in records.read(
        systems.folder(root, one.name) / name / "verdicts.jsonl", alignment.Verdict
      )
    }
    for one in chosen
  }


def _counts(results: Mapping[str, Any], model: str) -> stages.Counts:
  rendered, judged = results["video_models"][model], results["alignment"]
  names = [name for name, row in results["systems"].items() if not row["of"]]
  steps = set(itertools.pairwise(names))
  return {
    "queries": rendered["queries"],
    "dropped": rendered["dropped"],
    "reward": {name: row["reward"] for name, row in rendered["systems"].items()},
    **{
      verdict: {name: row[verdict] for name, row in judged["systems"].items()}
      for verdict in ("aligned", "unsafe")
    },
    "differences": [
      row
      for row in rendered["differences"]["reward"]
      if (row["one"], row["two"]) in steps
    ],
  }


def _execution_keys(config: stages.Config) -> stages.Keys:
  teacher = [
    f"{part}.{key}"
    for part in ("alignment", "build_sft")
    for key in queue.EXECUTION_KEYS
  ]
  sampling = [f"sample.{key}" for key in sample.STAGE.execution_keys_for(config.sample)]
  video = [f"video_models.*.{key}" for key in bridge.EXECUTION_KEYS]
  return (*teacher, *sampling, *video)


def _inputs(config: stages.Config) -> stages.Inputs:
  """The queries, the systems that are models of the workdir, and their templates."""
  models = [one for one in systems.parse(config.systems) if one.is_model]
  return (
    stages.Input("queries", "curate/test.jsonl"),
    *(stages.Input(f"system {one.name}", one.source, optional=True) for one in models),
    *(
      stages.Input(f"instruction of {one.name}", _place(one.instruction), optional=True)
      for one in models
      if one.instruction
    ),
  )


def _place(file: str) -> str:
  """A file of the current folder as an absolute path; others are of the workdir."""
  return os.path.abspath(file) if os.path.exists(file) else file


STAGE = stages.Stage(
  name="evaluate",
  run=run,
  inputs=_inputs,
  execution_keys=_execution_keys,
  cheap=True,  # the work is in the systems' stages and in the store
)
