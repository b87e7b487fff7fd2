"""One suite of an evaluation: its prompts, verdicts, videos and scores."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors, files, records, stages
from vpo_jax.evaluate import alignment, combined, measures, systems
from vpo_jax.evaluate.suites import base, measured
from vpo_jax.feedback import render_videos, score_videos
from vpo_jax.runtime import console


class Run:
  """The work of one suite, in three steps that the stage calls in order.

  Attributes:
    suite: the suite.
  """

  def __init__(
    self,
    suite: base.Suite,
    items: Sequence[base.Item],
    chosen: Sequence[systems.System],
    models: Sequence[str],
    work: stages.Work,
  ):
    """Keeps what the steps need.

    Args:
      items: the suite's queries; `config.limit` keeps the first ones only.
      chosen: all systems. Iterations (`of`) are left out unless `config.iterate` names
        the suite.
      models: the video models' names.
      work: the stage's work.
    """
    self.suite = suite
    self._all = len(items)
    kept = items[: work.config.limit] if work.config.limit else items
    self._items = {item.query.id: item for item in kept}
    iterated = suite.name in work.config.iterate
    self._chosen = [one for one in chosen if iterated or not one.of]
    self._models = models
    self._work = work
    self._values: list[measures.Measure] | None = None
    self._prompts = work.root / "suites" / suite.name
    self._folder = work.folder / suite.name

  def check_systems(self) -> None:
    """Checks what the systems need whose prompts no earlier run wrote.

    Raises:
      UserError: a file, a key or an interpreter of a system cannot be used.
    """
    for system in self._chosen:
      folder = systems.candidates(self._prompts, system).parent
      if stages.finished_counts(folder) is None:
        systems.check(system, self._work.config)

  def write_prompts(self) -> None:
    """Lets each system write its prompts.

    Raises:
      UserError: the suite has no query, or a system cannot write.
    """
    if not self._items:
      raise errors.UserError(f"evaluate: the suite {self.suite.name} has no query")
    path = self._prompts / "queries.jsonl"
    records.write(path, (item.query for item in self._items.values()))
    labels = {query: dict(item.labels) for query, item in self._items.items()}
    files.write_json(self._prompts / "labels.json", labels)
    by_name = {one.name: one for one in self._chosen}
    self._leave_out()
    for system in self._chosen:
      console.say(f"{self.suite.name}: {system.name}: prompts")
      earlier = by_name[system.of] if system.of else None
      config = self._work.config
      systems.write(system, config, path, earlier, self._prompts, self._work.root)

  def _leave_out(self) -> None:
    """Leaves out files of prompts that have none for this suite."""
    queries = [item.query for item in self._items.values()]
    kept: dict[str, systems.System] = {}
    for system in self._chosen:
      if system.of and system.of not in kept:
        continue
      missing = systems.missing(system, queries)
      where = f"{self.suite.name}: {system.name}"
      if missing == len(queries):
        console.say(f"{where}: left out, because its file has none of the queries")
        continue
      if missing:
        console.say(f"{where}: its file lacks {missing} of {len(queries)} queries")
      kept[system.name] = system
    self._chosen = list(kept.values())
    if not self._chosen:
      raise errors.UserError(f"evaluate: {self.suite.name}: no system has prompts")

  def judge(self) -> None:
    """Lets the judge give its verdicts, if the suite is judged."""
    if not self.suite.judged:
      return
    for system in self._chosen:
      named = self._work.config.alignment.copy_and_resolve_references()
      named.candidates = str(systems.candidates(self._prompts, system))
      place = systems.folder(self._prompts, system.name)
      stages.run(alignment.STAGE, named, place, self._work.root)

  def measure(self) -> base.Found:
    """Renders and scores the prompts; returns all that the measures are made of.

    Raises:
      UserError: no query has a prompt from every system, or the bridge cannot work.
    """
    rows = self._common_rows()
    if len(rows) < len(self._items):
      console.say(
        f"{self.suite.name}: {len(self._items) - len(rows)} of {len(self._items)}"
        " queries are dropped, because a system has no prompt for them"
      )
    videos, scores = {}, {}
    for model in self._models if self.suite.rendered else ():
      named = self._work.config.video_models[model]
      prompts = sum(_is_rendered(one, named) for one in self._chosen) * len(rows)
      if not prompts:
        console.say(f"{self.suite.name}: {model}: left out: it renders no system here")
        continue
      console.say(f"{self.suite.name}: {model}: videos of {prompts} prompts")
      if self.suite.scored:
        scores[model] = videos[model] = self._make_videos(model, rows)
      else:
        videos[model] = self._make_videos(model, rows)
    return base.Found(
      config=self._work.config,
      chosen=self._chosen,
      items=self._items,
      rows=rows,
      verdicts=self._verdicts() if self.suite.judged else {},
      videos=videos,
      scores=scores,
      folder=self._folder,
      place=self._prompts,
      work=self._work,
    )

  def values(self, found: base.Found) -> list[measures.Measure]:
    """The suite's measures and the prompts'; made once, as some read all videos."""
    if self._values is None:
      made_by = (*self.suite.measures, measured.prompts)
      self._values = [one for of in made_by for one in of(found)]
    return self._values

  def summarize(
    self, found: base.Found, config: ml_collections.ConfigDict
  ) -> dict[str, Any]:
    """The suite's part of results.json."""
    pairs = measures.pairs(self._chosen)
    labels = {query: item.labels for query, item in self._items.items()}
    details = self.suite.details(found) if self.suite.details else {}
    names = [one.name for one in self._chosen]
    chosen = combined.parse(config.combinations, names, list(found.videos))
    values = self.values(found)
    return details | {
      "title": self.suite.title,
      "queries": len(self._items),
      "all_queries": self._all,
      "dropped": len(self._items) - len(found.rows),
      "in_training": self._in_training(),
      "systems": [one.name for one in self._chosen],
      "measures": [
        measures.summarize(measure, pairs, labels, config) for measure in values
      ],
      "combinations": {
        "of": [dataclasses.asdict(one) for one in chosen],
        "measures": combined.summarize(values, chosen, labels, config),
      },
    }

  def _in_training(self) -> int:
    """How many queries the run's models were trained on, but for case and spaces.

    Reads what `curate` of this run wrote; other training data is not known.
    """

    def key(text: str) -> str:
      return " ".join(text.lower().split())

    trained = {
      key(row.text)
      for name in ("sft", "dpo")
      if (path := self._work.root / "curate" / f"{name}.jsonl").exists()
      for row in records.read(path, records.Query)
    }
    seen = sum(key(item.query.text) in trained for item in self._items.values())
    if seen:
      console.say(
        f"{self.suite.name}: {seen} of {len(self._items)} queries are among the"
        " training queries; keep them out with config.curate.held_out"
      )
    return seen

  def _common_rows(self) -> list[records.Candidates]:
    """The queries for which all systems have a prompt; candidate k is system k's."""
    by_system = [
      {row.query_id: row for row in records.read(path, records.Candidates)}
      for path in (systems.candidates(self._prompts, one) for one in self._chosen)
    ]
    rows = [
      dataclasses.replace(
        row,
        model="",
        settings={"systems": [one.name for one in self._chosen]},
        candidates=tuple(
          dataclasses.replace(rows[query].candidates[0], index=k)
          for k, rows in enumerate(by_system)
        ),
      )
      for query, row in by_system[0].items()
      if all(query in rows for rows in by_system)
    ]
    if not rows:
      raise errors.UserError(
        f"evaluate: {self.suite.name}: no query has a prompt from every system"
      )
    return rows

  def _make_videos(
    self, model: str, rows: Sequence[records.Candidates]
  ) -> dict[str, dict[str, list[Any]]]:
    """Renders all systems' prompts; the bridge loads its models once."""
    folder = self._folder / model
    prompts = folder / "prompts.jsonl"
    config = self._work.config
    named = config.video_models[model].copy_and_resolve_references()
    shown = [one for one in self._chosen if _is_rendered(one, named)]
    kept = {k for k, one in enumerate(self._chosen) if one in shown}
    records.write(prompts, (_only(row, kept) for row in rows))
    named.update(candidates=str(prompts), text_check=False)
    if self.suite.videos_per_prompt:
      named.videos_per_prompt = self.suite.videos_per_prompt(config)
    stages.run(_stage(self.suite), named, folder, self._work.root)
    found: dict[str, dict[str, list[Any]]] = {one.name: {} for one in shown}
    for row in read_videos(self.suite, folder / videos_file(self.suite)):
      by_query = found[self._chosen[row.index].name]
      by_query.setdefault(row.query_id, []).append(row)
    return found

  def _verdicts(self) -> dict[str, dict[str, str]]:
    """The verdict by system and query."""
    found = {}
    for one in self._chosen:
      place = systems.folder(self._prompts, one.name)
      path: epath.Path = place / alignment.STAGE.name / "verdicts.jsonl"
      rows = records.read(path, alignment.Verdict)
      found[one.name] = {row.query_id: row.verdict for row in rows}
    return found


def _is_rendered(
  system: systems.System, video_model: ml_collections.ConfigDict
) -> bool:
  """Whether a video model renders a system's prompts."""
  named = video_model.get("systems", ())
  return not named or system.name in named


def _only(row: records.Candidates, kept: set[int]) -> records.Candidates:
  """A row with the candidates of some systems."""
  candidates = tuple(one for one in row.candidates if one.index in kept)
  return dataclasses.replace(row, candidates=candidates)


def _stage(suite: base.Suite) -> stages.Stage:
  return score_videos.STAGE if suite.scored else render_videos.STAGE


def videos_file(suite: base.Suite) -> str:
  """The file of a suite's videos, in the folder of the suite and the video model."""
  name = "scores.jsonl" if suite.scored else "videos.jsonl"
  return f"{_stage(suite).name}/{name}"


def read_videos(suite: base.Suite, path: epath.PathLike) -> Iterator[base.Made]:
  """The rows of a suite's videos."""
  return records.read(path, records.Scored if suite.scored else records.Video)
