"""Rewrites a file of queries; the prompts are written as JSON Lines, CSV or text."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

from etils import epath

from vpo_jax import errors, files, json_input, records
from vpo_jax import queries as queries_lib
from vpo_jax.predict import predictor as predictors
from vpo_jax.promises import targets
from vpo_jax.runtime import console
from vpo_jax.sample import lm, settings
from vpo_jax.serve import guard as guards
from vpo_jax.serve import judge as judges
from vpo_jax.serve import optimize

BLOCK = 64  # queries between two writes
FORMATS = (".jsonl", ".csv", ".txt")
_COLUMNS = (
  "query",
  "prompt",
  "problem",
  "tokens",
  "budget",
  "negative_prompt",
  "verified",
)


def optimize_file(
  policy: lm.LanguageModel,
  path: epath.PathLike,
  output: epath.PathLike,
  sampling: settings.Settings,
  *,
  guard: bool = True,
  language: str = guards.LANGUAGE,
  iterations: int = 1,
  slots: int = 32,
  predictor: predictors.Predictor | None = None,
  keep: Sequence[str] = (),
  target: targets.Target | None = None,
  judge: judges.Judge | None = None,
  judge_name: str = "",
) -> dict[str, int]:
  """Rewrites a file of queries (see `queries.read`), in their order.

  A second run makes only the missing prompts: rows of `optimize.Optimized` are stored
  as JSON Lines, a block at a time. If `output` ends with .jsonl it is that file;
  otherwise it is written from `<output>.rows.jsonl` at the end. Text has one prompt per
  line.

  Args:
    judge_name: the judge's model, which a second run must have too.

  Returns: numbers of queries, of prompts that this run made, and of prompts with a
    problem.

  Raises:
    UserError: no queries, another ending of `output`, or rows made with other settings.
  """
  output = epath.Path(output)
  if output.suffix.lower() not in FORMATS:
    raise errors.UserError(f"--output={output}: must end with {' or '.join(FORMATS)}")
  queries = _read(epath.Path(path))
  made_with = dataclasses.asdict(sampling) | {
    "guard": guard,
    "language": language,
    "iterations": iterations,
    "precision": policy.precision,
    "model": policy.fingerprint(),
    "predictor": predictor.fingerprint() if predictor else None,
    "keep": list(keep) or None,
    "target": dataclasses.asdict(target.profile) if target else None,
    "judge": judge_name or None,
  }
  json_lines = output.suffix.lower() == ".jsonl"
  stored = output if json_lines else output.parent / f"{output.name}.rows.jsonl"
  rows = _resume(stored, made_with)
  missing = [query for query in dict.fromkeys(queries) if query not in rows]
  total = len(set(queries))
  with console.progress("optimize", total, total - len(missing)) as bar:
    for start in range(0, len(missing), BLOCK):
      block = missing[start : start + BLOCK]
      for row in optimize.optimize(
        policy,
        block,
        sampling,
        guard=guard,
        language=language,
        iterations=iterations,
        slots=slots,
        predictor=predictor,
        keep=keep,
        target=target,
        judge=judge,
      ):
        rows[row.query] = row
      records.write(stored, [rows[query] for query in queries if query in rows])
      bar(len(block), "")
  if not json_lines:
    write = _csv if output.suffix.lower() == ".csv" else _text
    files.write_text(output, write([rows[query] for query in queries]))
  flagged = sum(rows[query].problem is not None for query in queries)
  return {"queries": len(queries), "made": len(missing), "with_problem": flagged}


def _read(path: epath.Path) -> list[str]:
  """The texts of the valid rows, repeated ones included."""
  found = []
  for number, raw in enumerate(queries_lib.read(path), start=1):
    text = raw.text.strip()
    problem = raw.problem or ("" if text else "empty")
    if problem:
      console.say(f"{path}: set aside row {number}, {raw.text[:60]!r}: {problem}")
    else:
      found.append(text)
  if not found:
    raise errors.UserError(f"{path}: no valid query")
  return found


def _resume(
  stored: epath.Path, made_with: dict[str, Any]
) -> dict[str, optimize.Optimized]:
  """The rows of an earlier run, whose settings are stored next to them."""
  path = stored.parent / f"{stored.name}.settings.json"
  if not stored.exists() or not path.exists():
    if stored.exists():
      raise errors.UserError(
        f"{stored} exists, but not its {path.name}; choose another --output"
      )
    files.write_json(path, made_with)
    return {}
  previous = json_input.value(path)
  made_with = json.loads(json.dumps(made_with))
  for key, value in made_with.items():
    if previous.get(key) != value:
      raise errors.UserError(
        f"{stored} was made with {key}={previous.get(key)!r}, but this run has"
        f" {key}={value!r}; choose another --output or remove it"
      )
  return {row.query: row for row in records.read(stored, optimize.Optimized)}


def _csv(rows: Sequence[optimize.Optimized]) -> str:
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(_COLUMNS)
  writer.writerows([getattr(row, name) for name in _COLUMNS] for row in rows)
  return text.getvalue()


def _text(rows: Sequence[optimize.Optimized]) -> str:
  return "".join(" ".join(row.prompt.split()) + "\n" for row in rows)
