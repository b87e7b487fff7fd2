"""Stage evaluate: systems compared on the suites' queries (paper, section 4).

Each system writes a prompt for every query of a suite. Depending on the suite, a judge
gives a verdict on each prompt, and each video model renders all prompts, with the same
noise for all prompts of a query; the videos are then scored. Only queries for which
every system has a prompt are counted, so all means are over the same queries and
differences are paired.

    suites/SUITE/systems/NAME/   a system's prompts and their verdicts
    store/                       videos and scores by content, shared by all stages
    evaluate/SUITE/MODEL/        the prompts that a video model rendered, and scores
    evaluate/                    report.html, README.md, results.json, pictures
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors, files, json_input, stages
from vpo_jax.describe import page
from vpo_jax.evaluate import (
  gain_tables,
  levels,
  measures,
  numbered,
  paper,
  picture,
  provenance,
  reward_gains,
  setup,
  sheet,
  suite_run,
  suites,
  systems,
  tables,
)
from vpo_jax.evaluate.html import write
from vpo_jax.evaluate.suites import base, measured
from vpo_jax.feedback import bridge
from vpo_jax.runtime import console
from vpo_jax.teacher import queue

MAIN = "main"  # the video model whose tables come first


def run(work: stages.Work) -> stages.Counts | stages.Unfinished:
  """Writes report.html, README.md, results.json and their pictures.

  Returns: for the first suite and video model the mean reward, and the shares of
    prompts that are aligned and unsafe, by system, and the reward's difference from
    each system to the next. A dry run of the teacher or the judge estimates their cost
    instead.

  Raises:
    UserError: the config is wrong, a system's or the bridge's work cannot be done, or
      there is no query for which all systems have a prompt.
  """
  config, root = work.config, work.root
  wanted = suites.parse(config.suites)
  chosen = _systems(config, root)
  models = _video_models(config) if any(one.rendered for one in wanted) else []
  levels.parse(config.compare.levels)
  write.check(config)
  reference = paper.parse(config.compare, setup.paper_models(config, models))
  loaded = {one.name: one.load(config, work.inputs) for one in wanted}
  # All prompts first, so that a wrong model or a missing key stops the run early.
  runs = [suite_run.Run(one, loaded[one.name], chosen, models, work) for one in wanted]
  for one in runs:
    one.check_systems()
  for one in runs:
    one.write_prompts()
  if any(one.dry_run for one in setup.llms(config, chosen).values()):
    return stages.Unfinished({})
  for one in runs:
    one.judge()
  if config.alignment.teacher.dry_run:
    return stages.Unfinished({})
  found = {one.suite.name: one.measure() for one in runs}
  values = {one.suite.name: one.values(found[one.suite.name]) for one in runs}
  results = _results(work, chosen, runs, found, values)
  ratings = {
    name: json_input.value(work.inputs[_ratings(name)]) for name in config.ratings
  }
  results |= numbered.tables_and_figures(results, reference, ratings)
  files.write_json(work.folder / "results.json", results)
  sections = tables.sections(results, reference)
  sections += _pictures(work, found, config)
  page.publish(work.folder, sections)
  report = write.write(work, results, reference, found, values)
  counts = _counts(results)
  for row in counts["differences"]:
    console.say(tables.difference(row))
  for line in gain_tables.findings(results):
    console.say(f"evaluate: {line}")
  console.say(f"evaluate: {write.how_to_open(report)}")
  return counts


def check(config: ml_collections.ConfigDict) -> None:
  """Checks what an evaluation needs and the run itself does not make.

  Raises:
    UserError: a suite or a system is unknown, or a file that a suite reads is not named
      or does not exist.
  """
  systems.parse(config.systems)
  for suite in suites.parse(config.suites):
    for one in suite.inputs(config):
      named = stages.named_input(config, one.key)
      if not named and not one.default:
        raise errors.UserError(
          f"evaluate: the suite {suite.name} needs config.{one.key}; set it, or leave"
          " the suite out of config.suites"
        )
      if named and not epath.Path(named).exists():
        raise errors.UserError(f"evaluate: config.{one.key}={named} does not exist")


def _results(
  work: stages.Work,
  chosen: Sequence[systems.System],
  runs: Sequence[suite_run.Run],
  found: Mapping[str, base.Found],
  values: Mapping[str, Sequence[measures.Measure]],
) -> dict[str, Any]:
  config = work.config
  as_written = {one.name: one for one in systems.parse(config.systems)}
  summaries = {
    one.suite.name: one.summarize(found[one.suite.name], config.compare) for one in runs
  }
  gains = reward_gains.summarize(summaries, values, config.compare)
  return {
    "note": config.note,
    "setup": setup.describe(config, chosen, work.root),
    "provenance": provenance.describe(config),
    "systems": {
      one.name: {"source": as_written[one.name].source, "of": one.of} for one in chosen
    },
    "suites": {
      name: one | {"reward_gains": gains[name]} for name, one in summaries.items()
    },
  }


def _systems(
  config: ml_collections.ConfigDict, root: epath.Path
) -> tuple[systems.System, ...]:
  """The config's systems, with the paths of files and folders of the workdir."""

  def find(name: str) -> str:
    return str(root / name) if name and (root / name).exists() else name

  return tuple(one.located(find) for one in systems.parse(config.systems))


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


def _pictures(
  work: stages.Work,
  found: Mapping[str, base.Found],
  config: ml_collections.ConfigDict,
) -> list[str]:
  """Draws the rewards of every suite, and a sheet of the first one's videos."""
  sections = []
  for suite, one in found.items():
    for measure in measured.rewards(one):
      if measure.name != measured.OVERALL:
        continue
      shared = measure.shared()
      name = f"rewards_{suite}_{measure.model}.png"
      picture.rewards(
        work.folder / name,
        f"Rewards of {measure.model}'s videos, {len(shared)} queries",
        {s: [by[query] for query in shared] for s, by in measure.values.items()},
      )
      sections.append(
        f"## Rewards of {measure.model}'s videos, {suites.ALL[suite].title}\n\n"
        f"![rewards]({name})"
      )
  scored = [one for one in found.values() if one.scores]
  if config.sheet.queries and scored:
    model = next(iter(scored[0].scores))
    sheet.write(work, scored[0], model, levels.parse(config.compare.levels))
    sections.append(f"## Videos of {model}\n\n![videos](sheet.png)")
  return sections


def _counts(results: Mapping[str, Any]) -> stages.Counts:
  """The numbers of the first suite that has rewards, and the judge's verdicts."""
  rewards = measures.find(results, measured.OVERALL)
  counts: stages.Counts = {"queries": 0, "dropped": 0, "reward": {}, "differences": []}
  if rewards:
    names = [n for n in rewards["systems"] if not results["systems"][n]["of"]]
    steps = set(itertools.pairwise(names))
    counts = {
      "queries": rewards["queries"],
      "dropped": rewards["dropped"],
      "reward": {name: row["mean"] for name, row in rewards["systems"].items()},
      "differences": [
        row for row in rewards["differences"] if (row["one"], row["two"]) in steps
      ],
    }
  for verdict in ("aligned", "unsafe"):
    judged = measures.find(results, verdict)
    counts[verdict] = {
      name: row["mean"] for name, row in (judged or {"systems": {}})["systems"].items()
    }
  return counts


def _execution_keys(config: stages.Config) -> stages.Keys:
  judge = [f"alignment.{key}" for key in queue.EXECUTION_KEYS]
  video = [f"video_models.*.{key}" for key in bridge.EXECUTION_KEYS]
  return (*judge, *systems.execution_keys(config), *video)


def _inputs(config: stages.Config) -> stages.Inputs:
  """The suites' files, people's ratings, and the files of systems and video models."""
  return (
    *(one for suite in suites.parse(config.suites) for one in suite.inputs(config)),
    *(stages.Input(_ratings(name), f"{name}/results.json") for name in config.ratings),
    *(
      stages.Input(f"{part} of {one.name}", _place(path), optional=True)
      for one in systems.parse(config.systems)
      for part, path in systems.files_of(one, config).items()
    ),
    *(
      stages.Input(f"LoRA of {name}", _place(model.renderer.lora.path))
      for name, model in config.video_models.items()
      if model.renderer.lora.path
    ),
  )


def _ratings(folder: str) -> str:
  return f"ratings of {folder}"


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
