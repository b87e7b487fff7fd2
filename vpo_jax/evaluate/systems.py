"""A system's prompts for the test queries, as candidates to be judged and rendered.

A system is what stands between a user's query and the video model: nothing (the query
itself), a teacher that writes one prompt, a trained model, or one of these applied to
the prompts of another system (the paper's iterations, section 11).

Each system has a workdir of its own, `<workdir>/systems/NAME`, whose stages are below.
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
from vpo_jax.teacher import few_shot, queue, staged
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib

QUERY = "query"  # the query itself
TEACHER = "teacher"  # the teacher's few-shot prompt, neither judged nor refined


@dataclasses.dataclass(frozen=True)
class System:
  """A row of `config.systems`.

  Attributes:
    source: `QUERY`, `TEACHER`, or a model (directory, hub id, embedded model).
    instruction: template file for the model; "" is the model's own.
    of: the system whose prompts are this system's queries; "" means the users' queries.
  """

  name: str
  source: str
  of: str = ""
  instruction: str = ""

  @property
  def is_model(self) -> bool:
    return self.source not in (QUERY, TEACHER)


def parse(rows: Sequence[str]) -> tuple[System, ...]:
  """The systems of rows such as "vpo=vpo" and "vpo_2=vpo of vpo".

  "released=CCCCCC/VPO-5B instruction=FILE" gives a model a template file.

  Raises:
    UserError: there are fewer than two systems, a row has another form, a name occurs
      twice, or the system after `of` is not named in an earlier row.
  """
  found: dict[str, System] = {}
  for row in rows:
    name, _, rest = row.partition("=")
    rest, _, of = rest.partition(" of ")
    source, _, instruction = rest.partition(" instruction=")
    if not (re.fullmatch(r"[\w-]+", name) and source.strip()) or name in found:
      raise errors.UserError(
        f"config.systems: {row!r}: must be NAME=SOURCE [instruction=FILE] [of"
        " NAME]; a name has letters, digits, _ and -, and occurs once"
      )
    if of and of not in found:
      raise errors.UserError(f"config.systems: {row!r}: no earlier row is named {of!r}")
    found[name] = System(name, source.strip(), of, instruction.strip())
    if instruction and not found[name].is_model:
      raise errors.UserError(
        f"config.systems: {row!r}: only a model has an instruction"
      )
  if len(found) < 2:
    raise errors.UserError("config.systems: name two or more systems to compare")
  return tuple(found.values())


def folder(root: epath.PathLike, name: str) -> epath.Path:
  """The workdir of a system."""
  return epath.Path(root) / "systems" / name


def candidates(root: epath.PathLike, system: System) -> epath.Path:
  """The file with the system's prompts, one candidate per query."""
  stage = sample.STAGE if system.is_model and not system.of else _QUERIES
  return folder(root, system.name) / stage.name / "candidates.jsonl"


def write(
  system: System,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  earlier: System | None,
  root: epath.PathLike,
) -> None:
  """Writes the system's prompts to `candidates(root, system)`.

  Args:
    config: with `sample` (configs/sample.py) and `build_sft` (configs/build_sft.py).
    queries: the test queries.
    earlier: the system `system.of`, whose prompts are written already.
    root: the workdir of the run.

  Raises:
    UserError: as the stages raise it.
  """
  place = folder(root, system.name)
  if earlier is None:
    _run(system, config, queries, place, root)
    return
  source = candidates(root, earlier)
  queries = place / "queries.jsonl"
  prompts = [
    records.Query(row.query_id, row.candidates[0].prompt, row.category)
    for row in records.read(source, records.Candidates)
  ]
  records.write(queries, prompts)
  rewrite = dataclasses.replace(system, of="")
  again = place / "again"
  _run(rewrite, config, queries, again, root)
  rewritten = again / candidates(root, rewrite).relative_to(folder(root, system.name))
  restored = ml_collections.ConfigDict(
    {"earlier": str(source), "rewritten": str(rewritten)}
  )
  stages.run(_ITERATION, restored, place, root)


def _run(
  system: System,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  place: epath.Path,
  root: epath.PathLike,
) -> None:
  if system.source == QUERY:
    named = ml_collections.ConfigDict({"queries": str(queries)})
    stages.run(_QUERIES, named, place, root)
  elif system.source == TEACHER:
    stages.run(_FEW_SHOT, _named(config.build_sft, queries=queries), place, root)
  else:
    if config.sample.num_candidates != 1:
      raise errors.UserError(
        f"config.sample.num_candidates={config.sample.num_candidates}: systems are"
        " compared by one prompt per query"
      )
    named = _named(config.sample, queries=queries, model=system.source)
    named.instruction = system.instruction or named.instruction
    stages.run(sample.STAGE, named, place, root, own_process=True)


def _named(
  config: ml_collections.ConfigDict, **inputs: epath.PathLike
) -> ml_collections.ConfigDict:
  """A copy of a stage's config with its inputs named."""
  named = config.copy_and_resolve_references()
  named.update({key: str(path) for key, path in inputs.items()})
  return named


def _write_queries(work: stages.Work) -> stages.Counts:
  """Writes the queries themselves as prompts."""
  rows, _ = queries_lib.load(work.inputs["queries"])
  made = [_candidate(row, row.text, QUERY) for row in rows]
  records.write(work.folder / "candidates.jsonl", made)
  return {"queries": len(rows), "candidates": len(made)}


def _write_few_shot(work: stages.Work) -> stages.Counts | stages.Unfinished:
  """The teacher's few-shot prompts (paper, figure 7).

  If the teacher refuses a query, its prompt is empty and is rendered as such, because a
  user of that teacher would get nothing else.
  """
  config = work.config
  template = templates.load("few_shot", config.few_shot)
  rows, _ = queries_lib.load(work.inputs["queries"])
  demonstrations = templates.demonstrations(config.demonstrations)

  async def chain(ask: ask_lib.Ask, query: records.Query) -> str:
    return await few_shot.generate(
      ask,
      query.text,
      template=template,
      demonstrations=demonstrations,
      shots=config.shots,
      seed=config.seed,
    )

  texts = texts_lib.Texts(few_shot=template)
  finish = functools.partial(_finish_few_shot, work, rows)
  return staged.run(work, rows, chain, texts, finish)


def _finish_few_shot(
  work: stages.Work,
  rows: list[records.Query],
  outcomes: list[str | ask_lib.NoAnswer],
  totals: totals_lib.Totals,
) -> stages.Counts:
  made, aside, refused = [], [], 0
  for row, outcome in zip(rows, outcomes, strict=True):
    if not isinstance(outcome, ask_lib.NoAnswer):
      made.append(_candidate(row, outcome, TEACHER))
    elif outcome.kind == "refused":
      refused += 1
      made.append(_candidate(row, "", TEACHER))
    else:
      aside.append(records.SetAside(row.id, row.text, str(outcome)))
  records.write(work.folder / "candidates.jsonl", made)
  records.write(work.folder / "set_aside.jsonl", aside)
  return {
    "queries": len(rows),
    "candidates": len(made),
    "refused": refused,
    "set_aside": len(aside),
    **totals.counts(),
  }


def _restore_queries(work: stages.Work) -> stages.Counts:
  """The prompts of an iteration, next to the users' queries that they answer."""
  earlier = records.read(work.inputs["earlier"], records.Candidates)
  users = {row.query_id: row for row in earlier}
  rows = [
    dataclasses.replace(
      row, query=users[row.query_id].query, flags=users[row.query_id].flags
    )
    for row in records.read(work.inputs["rewritten"], records.Candidates)
  ]
  records.write(work.folder / "candidates.jsonl", rows)
  return {"queries": len(users), "candidates": len(rows)}


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


_QUERIES = stages.Stage(
  name="prompts", run=_write_queries, inputs=(stages.Input("queries"),), cheap=True
)
_FEW_SHOT = stages.Stage(
  name="prompts",
  run=_write_few_shot,
  inputs=(stages.Input("queries"),),
  execution_keys=queue.EXECUTION_KEYS,
)
_ITERATION = stages.Stage(
  name="prompts",
  run=_restore_queries,
  inputs=(stages.Input("earlier"), stages.Input("rewritten")),
  cheap=True,
)
