"""Prompts that others wrote and published, matched by the query's text.

A file of JSON rows has the query in each row. In a text file, line i is the prompt of
line i of a file of queries, as in VBench's published rewritings.
"""

import ml_collections
from etils import epath

from vpo_jax import errors, json_input, records, stages
from vpo_jax import queries as queries_lib
from vpo_jax.evaluate.systems import made, row

_QUERY_KEYS = ("query", "text")


def read(path: epath.PathLike, queries: epath.PathLike = "") -> dict[str, str]:
  """Reads the prompts of a file by their queries, without surrounding spaces.

  If a query occurs several times, the first prompt counts.

  Args:
    path: JSON rows with "query" (or "text") and "prompt", or a text file.
    queries: the text file whose line i is the query of line i of `path`.

  Raises:
    UserError: a file cannot be read, a row lacks a key, the files have different
      numbers of lines, a line is empty, or a text file has no file of queries.
  """
  if queries:
    prompts, texts = _lines(path), _lines(queries)
    if len(prompts) != len(texts):
      raise errors.UserError(
        f"{path}: {len(prompts)} lines, but {queries} has {len(texts)}; line i must be"
        " the prompt of line i of the queries"
      )
    pairs = list(zip(texts, prompts, strict=True))
  elif epath.Path(path).suffix.lower() in queries_lib.JSON:
    pairs = [_pair(path, found) for found in json_input.rows(path)]
  else:
    raise errors.UserError(
      f"{path}: not .json or .jsonl; name the file of queries that its lines follow, as"
      " in NAME=prompts FILE queries=FILE"
    )
  return dict(reversed(pairs))


def _lines(path: epath.PathLike) -> list[str]:
  lines = [(number, line.strip()) for number, line in json_input.lines(path)]
  for place, (number, _) in enumerate(lines, start=1):
    if number != place:
      raise errors.UserError(f"{path}:{place}: the line is empty")
  if not lines:
    raise errors.UserError(f"{path}: the file is empty")
  return [line for _, line in lines]


def _pair(path: epath.PathLike, found: json_input.Row) -> tuple[str, str]:
  value = found.value if isinstance(found.value, dict) else {}
  query = next((value[key] for key in _QUERY_KEYS if key in value), None)
  prompt = value.get("prompt")
  if found.problem or not (isinstance(query, str) and isinstance(prompt, str)):
    reason = found.problem or 'needs the texts "query" (or "text") and "prompt"'
    raise errors.UserError(f"{path}: {found.place}: {reason}")
  return query.strip(), prompt.strip()


def write(
  system: row.System,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  place: epath.Path,
  root: epath.PathLike,
) -> None:
  """Writes the file's prompts of the queries that it has."""
  del config
  named = ml_collections.ConfigDict(
    {"queries": str(queries), "prompts": system.target, "lines_of": system.queries}
  )
  stages.run(_STAGE, named, place, root)


def _run(work: stages.Work) -> stages.Counts:
  known = read(work.inputs["prompts"], work.inputs.get("lines_of", ""))
  rows, _ = queries_lib.load(work.inputs["queries"])
  candidates = [
    made.candidate(query, known[query.text.strip()], row.PROMPTS)
    for query in rows
    if query.text.strip() in known
  ]
  records.write(work.folder / "candidates.jsonl", candidates)
  return {"queries": len(rows), "candidates": len(candidates)}


def _inputs(config: stages.Config) -> stages.Inputs:
  lines_of = [stages.Input("lines_of")] if config.lines_of else []
  return (stages.Input("queries"), stages.Input("prompts"), *lines_of)


_STAGE = stages.Stage(name=made.STAGE, run=_run, inputs=_inputs, cheap=True)
