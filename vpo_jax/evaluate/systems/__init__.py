"""A system's prompts for the test queries, as candidates to be judged and rendered.

A system is what stands between a user's query and the video model: nothing (the query
itself), an LLM that writes one prompt, a trained model, a published file of prompts, or
one of these applied to the prompts of another system (the paper's iterations, section
11). Each kind is a module.

For each suite, a system has a workdir of its own,
`<workdir>/suites/SUITE/systems/NAME`, which contains the folders of its stages.
"""

import dataclasses

import ml_collections
from etils import epath

from vpo_jax import records, stages
from vpo_jax.evaluate.systems import (
  few_shot,
  llm,
  made,
  plain,
  promptist,
  prompts_file,
  row,
  sampled,
)
from vpo_jax.runtime import console
from vpo_jax.sample import candidates as sample
from vpo_jax.teacher import queue

System = row.System
parse = row.parse
QUERY, TEACHER, LLM, PROMPTIST = row.QUERY, row.TEACHER, row.LLM, row.PROMPTIST
PROMPT_A_VIDEO = row.PROMPT_A_VIDEO
llm_settings = llm.settings
promptist_model = promptist.model
PROMPTS_FOLDER = made.STAGE  # of a system's prompts, unless a model is sampled
_WRITE = {
  row.QUERY: plain.write,
  row.TEACHER: few_shot.write,
  row.MODEL: sampled.write,
  row.PROMPTS: prompts_file.write,
  row.LLM: llm.write,
  row.PROMPTIST: promptist.write,
  row.PROMPT_A_VIDEO: sampled.write,
}


def folder(place: epath.PathLike, name: str) -> epath.Path:
  """The workdir of a system in the folder of a suite."""
  return epath.Path(place) / "systems" / name


def candidates(place: epath.PathLike, system: System) -> epath.Path:
  """The file with the system's prompts, one candidate per query."""
  stage = sample.STAGE if system.is_model and not system.of else plain.QUERIES
  return folder(place, system.name) / stage.name / "candidates.jsonl"


def write(
  system: System,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  earlier: System | None,
  place: epath.PathLike,
  root: epath.PathLike,
) -> None:
  """Writes the system's prompts to `candidates(place, system)`.

  A dry run of an LLM writes nothing, and neither does an iteration of its prompts.

  Args:
    config: of the stage evaluate (configs/evaluate.py).
    queries: the test queries.
    earlier: the system `system.of`, whose prompts are written already.
    place: the folder of the suite.
    root: the workdir of the run.

  Raises:
    UserError: as the stages raise it.
  """
  own = folder(place, system.name)
  if earlier is None:
    _WRITE[system.kind](system, config, queries, own, root)
    return
  source = candidates(place, earlier)
  if not source.exists():  # a dry run of an LLM
    console.say(f"{system.name}: not estimated: it needs the prompts of {earlier.name}")
    return
  queries = own / "queries.jsonl"
  prompts = [
    records.Query(found.query_id, found.candidates[0].prompt, found.category)
    for found in records.read(source, records.Candidates)
  ]
  records.write(queries, prompts)
  rewrite = dataclasses.replace(system, of="")
  again = own / "again"
  _WRITE[system.kind](rewrite, config, queries, again, root)
  rewritten = again / candidates(place, rewrite).relative_to(own)
  if rewritten.exists():
    restored = ml_collections.ConfigDict(
      {"earlier": str(source), "rewritten": str(rewritten)}
    )
    stages.run(plain.ITERATION, restored, own, root)


def check(system: System, config: ml_collections.ConfigDict) -> str:
  """Checks what a system needs before anything is computed; returns what it is.

  The weights of models that this project samples from are not checked here.

  Raises:
    UserError: a file, a key of the config, or an interpreter is missing or unusable.
  """
  if system.kind == row.PROMPTS:
    return f"{len(prompts_file.read(system.target, system.queries))} prompts"
  if system.kind == row.LLM:
    teacher = llm.settings(system, config).teacher
    return f"{teacher.model} ({teacher.server or teacher.base_url or 'OpenAI'})"
  if system.kind == row.PROMPTIST:
    return promptist.check(system, config)
  if system.is_model:
    sampled.check(system, config)
  return system.source


def execution_keys(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """Keys of the config that do not change the systems' prompts (`stages.Stage`)."""
  teacher = ("build_sft", "llms.*")
  return (
    *(f"{part}.{key}" for part in teacher for key in queue.EXECUTION_KEYS),
    *(
      f"{part}.{key}"
      for part in ("sample", "prompt_a_video")
      for key in sample.STAGE.execution_keys_for(config[part])
    ),
    *(f"promptist.{key}" for key in promptist.EXECUTION_KEYS),
  )


def files_of(system: System, config: ml_collections.ConfigDict) -> dict[str, str]:
  """The files and folders that a system's prompts depend on, by what they are."""
  found = {"instruction": system.instruction, "queries": system.queries}
  if system.kind == row.LLM:
    found["template"] = config.llms.get(system.target, {}).get("template", "")
  elif system.kind == row.PROMPTIST:
    found["source"] = promptist.model(system, config)
  else:
    found["source"] = system.target
  return {name: path for name, path in found.items() if path}


def missing(system: System, queries: list[records.Query]) -> int:
  """How many of the queries the system has no prompt for, before it writes any.

  Only a file of prompts can lack some.

  Raises:
    UserError: the file cannot be read.
  """
  if system.kind != row.PROMPTS:
    return 0
  known = prompts_file.read(system.target, system.queries)
  return sum(query.text.strip() not in known for query in queries)
