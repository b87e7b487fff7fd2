"""One system's prompts for the test queries, as candidates that are judged and filmed.

A system is what stands between a user's query and the video model: nothing (the query
itself), a teacher that writes a prompt at the first try, or a trained model.
"""

import ml_collections
from etils import epath

from vpo_jax import errors, records, stage
from vpo_jax import queries as queries_lib
from vpo_jax.sample import stage as sample
from vpo_jax.teacher import build_sft

QUERY = "query"  # the query itself
TEACHER = "teacher"  # the teacher's few-shot prompt, neither judged nor refined


def write(
  source: str,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  folder: epath.PathLike,
) -> None:
  """Writes `<folder>/sample/candidates.jsonl`, one candidate a query.

  Args:
    source: `QUERY`, `TEACHER`, or a model as configs/sample.py names it.
    config: with `sample` (configs/sample.py) and `build_sft` (configs/build_sft.py).

  Raises:
    UserError: as the stages that write it.
  """
  if source not in (QUERY, TEACHER):
    with_model = config.sample.copy_and_resolve_references()
    with_model.update(queries=str(queries), model=source)
    if with_model.num_candidates != 1:
      raise errors.UserError(
        f"config.sample.num_candidates={with_model.num_candidates}: systems are"
        " compared by one prompt a query"
      )
    sample.run(with_model, folder)
    return
  made_by = ml_collections.ConfigDict({"source": source})
  inputs = {"queries": queries}
  if source == TEACHER:
    asked = config.build_sft.copy_and_resolve_references()
    asked.input = str(queries)
    build_sft.run(asked, folder)
    inputs["examples"] = epath.Path(folder) / build_sft.NAME / "sft.jsonl"
  work = stage.begin("sample", made_by, folder, inputs)
  if work.counts is not None:
    return
  rows, _ = queries_lib.load(queries)
  texts = {row.id: row.text for row in rows}
  if source == TEACHER:
    examples = records.read(inputs["examples"], records.SftExample)
    texts = {row.query_id: row.generated for row in examples}
  candidates = [
    _candidate(row, texts[row.id], source) for row in rows if row.id in texts
  ]
  records.write(work.folder / "candidates.jsonl", candidates)
  work.finish({"queries": len(rows), "candidates": len(candidates)})


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
