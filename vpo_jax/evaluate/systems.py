"""One system's prompts for the test queries, as candidates that are judged and filmed.

A system is what stands between a user's query and the video model: nothing (the query
itself), a teacher that writes a prompt at the first try, a trained model, or one of
these again over the prompts of another system (paper, section 11).
"""

import dataclasses
import functools
import re
from collections.abc import Sequence

import ml_collections
from etils import epath

from vpo_jax import errors, records, stages, templates
from vpo_jax import queries as queries_lib
from vpo_jax.sample import candidates as sample
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import few_shot, staged
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib

QUERY = "query"  # the query itself
TEACHER = "teacher"  # the teacher's few-shot prompt, neither judged nor refined
NAME = "sample"  # the stage that writes prompts, whoever they are by


@dataclasses.dataclass(frozen=True)
class System:
  """What a row of `config.systems` names.

  Attributes:
    source: `QUERY`, `TEACHER`, or a model.
    of: the system whose prompts it takes for queries; "" where it takes the users'.
  """

  name: str
  source: str
  of: str = ""


def parse(rows: Sequence[str]) -> tuple[System, ...]:
  """The systems of rows such as "vpo=vpo" and "vpo_2=vpo of vpo".

  Raises:
    UserError: fewer than two, a row that says something else, a name twice, or `of` a
      system that is not named before.
  """
  found: dict[str, System] = {}
  for row in rows:
    name, _, said = row.partition("=")
    source, _, of = said.partition(" of ")
    if not (re.fullmatch(r"[\w-]+", name) and source.strip()) or name in found:
      raise errors.UserError(
        f"config.systems: {row!r}: wants NAME=SOURCE or NAME=SOURCE of NAME, each name"
        " once, of letters, digits, _ and -"
      )
    if of and of not in found:
      raise errors.UserError(f"config.systems: {row!r}: name {of!r} before it")
    found[name] = System(name, source.strip(), of)
  if len(found) < 2:
    raise errors.UserError("config.systems: name two or more systems to compare")
  return tuple(found.values())


def folder(workdir: epath.PathLike, name: str) -> epath.Path:
  """Where a system's prompts and their verdicts lie."""
  return epath.Path(workdir) / "systems" / name


def candidates(workdir: epath.PathLike, name: str) -> epath.Path:
  return folder(workdir, name) / NAME / "candidates.jsonl"


def write(
  system: System,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  workdir: epath.PathLike,
) -> None:
  """Writes the system's `candidates`, one a query.

  Args:
    config: with `sample` (configs/sample.py) and `build_sft` (configs/build_sft.py).

  Raises:
    UserError: as the stages that write it.
  """
  place = folder(workdir, system.name)
  if not system.of:
    _write(system.source, config, queries, place)
    return
  earlier = candidates(workdir, system.of)
  queries = place / "queries.jsonl"
  asked = [
    records.Query(row.query_id, row.candidates[0].prompt, row.category)
    for row in records.read(earlier, records.Candidates)
  ]
  records.write(queries, asked)
  _write(system.source, config, queries, place / "again")
  rewritten = place / "again" / NAME / "candidates.jsonl"
  made_by = ml_collections.ConfigDict(dataclasses.asdict(system))
  work = stages.begin(
    NAME, made_by, place, {"earlier": earlier, "rewritten": rewritten}
  )
  if work.counts is not None:
    return
  users = {row.query_id: row for row in records.read(earlier, records.Candidates)}
  rows = [
    dataclasses.replace(
      row, query=users[row.query_id].query, flags=users[row.query_id].flags
    )
    for row in records.read(rewritten, records.Candidates)
  ]
  records.write(work.folder / "candidates.jsonl", rows)
  work.finish({"queries": len(users), "candidates": len(rows)})


def _write(
  source: str,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  place: epath.Path,
) -> None:
  if source == QUERY:
    _repeat(queries, place)
  elif source == TEACHER:
    _ask(config.build_sft, queries, place)
  else:
    with_model = config.sample.copy_and_resolve_references()
    with_model.update(queries=str(queries), model=source)
    if with_model.num_candidates != 1:
      raise errors.UserError(
        f"config.sample.num_candidates={with_model.num_candidates}: systems are"
        " compared by one prompt a query"
      )
    sample.run(with_model, place)


def _repeat(queries: epath.PathLike, place: epath.Path) -> None:
  """The queries as they are."""
  made_by = ml_collections.ConfigDict({"source": QUERY})
  work = stages.begin(NAME, made_by, place, {"queries": queries})
  if work.counts is not None:
    return
  rows, _ = queries_lib.load(queries)
  made = [_candidate(row, row.text, QUERY) for row in rows]
  records.write(work.folder / "candidates.jsonl", made)
  work.finish({"queries": len(rows), "candidates": len(made)})


def _ask(
  config: ml_collections.ConfigDict, queries: epath.PathLike, place: epath.Path
) -> None:
  """The teacher's few-shot prompts (paper, figure 7).

  One that the teacher refuses to write is empty, and is filmed as such: a user of that
  teacher would get no more.
  """
  template = templates.load("few_shot", config.few_shot)
  rows, _ = queries_lib.load(queries)

  def finish(
    folder: epath.Path,
    outcomes: list[str | ask_lib.NoAnswer],
    totals: totals_lib.Totals,
  ) -> dict[str, int | float | None]:
    made, aside = [], []
    for row, outcome in zip(rows, outcomes, strict=True):
      refused = isinstance(outcome, ask_lib.NoAnswer) and outcome.kind == "refused"
      if isinstance(outcome, ask_lib.NoAnswer) and not refused:
        aside.append(records.SetAside(row.id, row.text, str(outcome)))
      else:
        made.append(_candidate(row, "" if refused else str(outcome), TEACHER))
    records.write(folder / "candidates.jsonl", made)
    records.write(folder / "set_aside.jsonl", aside)
    return {
      "queries": len(rows),
      "candidates": len(made),
      "refused": sum(not row.candidates[0].prompt for row in made),
      "set_aside": len(aside),
      **totals.counts(),
    }

  chain = functools.partial(
    _few_shot,
    template=template,
    demonstrations=templates.demonstrations(config.demonstrations),
    config=config,
  )
  texts = texts_lib.Texts(few_shot=template)
  staged.run(NAME, config, place, {"queries": queries}, rows, chain, texts, finish)


async def _few_shot(
  ask: ask_lib.Ask,
  query: records.Query,
  *,
  template: str,
  demonstrations: Sequence[templates.Demonstration],
  config: ml_collections.ConfigDict,
) -> str:
  return await few_shot.generate(
    ask,
    query.asked,
    template=template,
    demonstrations=demonstrations,
    shots=config.shots,
    seed=config.seed,
  )


def _candidate(query: records.Query, prompt: str, source: str) -> records.Candidates:
  return records.Candidates(
    query_id=query.id,
    query=query.text,
    category=query.category,
    model=source,
    settings={},
    candidates=(records.Candidate(0, prompt, "stop", 0),),
    flags=query.flags,
  )
