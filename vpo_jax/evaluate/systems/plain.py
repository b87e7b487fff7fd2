"""The query itself as the prompt, and the last step of an iteration."""

import dataclasses

import ml_collections
from etils import epath

from vpo_jax import queries as queries_lib
from vpo_jax import records, stages
from vpo_jax.evaluate.systems import made, row


def write(
  system: row.System,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  place: epath.Path,
  root: epath.PathLike,
) -> None:
  """Writes the queries as prompts."""
  del system, config
  named = ml_collections.ConfigDict({"queries": str(queries)})
  stages.run(QUERIES, named, place, root)


def _write_queries(work: stages.Work) -> stages.Counts:
  rows, _ = queries_lib.load(work.inputs["queries"])
  candidates = [made.candidate(query, query.text, row.QUERY) for query in rows]
  records.write(work.folder / "candidates.jsonl", candidates)
  return {"queries": len(rows), "candidates": len(candidates)}


def _restore_queries(work: stages.Work) -> stages.Counts:
  """The prompts of an iteration, next to the users' queries that they answer."""
  earlier = records.read(work.inputs["earlier"], records.Candidates)
  users = {found.query_id: found for found in earlier}
  rows = [
    dataclasses.replace(
      found, query=users[found.query_id].query, flags=users[found.query_id].flags
    )
    for found in records.read(work.inputs["rewritten"], records.Candidates)
  ]
  records.write(work.folder / "candidates.jsonl", rows)
  return {"queries": len(users), "candidates": len(rows)}


QUERIES = stages.Stage(
  name=made.STAGE,
  run=_write_queries,
  inputs=(stages.Input("queries"),),
  cheap=True,
)
ITERATION = stages.Stage(
  name=made.STAGE,
  run=_restore_queries,
  inputs=(stages.Input("earlier"), stages.Input("rewritten")),
  cheap=True,
)
