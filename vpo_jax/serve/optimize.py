"""Queries in, optimized prompts out: what a user of the trained model does."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from vpo_jax import errors, files, records
from vpo_jax import queries as queries_lib
from vpo_jax.runtime import console
from vpo_jax.sample import generate, lm, pool, settings
from vpo_jax.serve import guard as guards

ATTEMPTS = 3  # the first and two retries
BLOCK = 64  # queries of a file between two writes
_RETRY = 2**32  # beyond the seeds that a user gives

# Finds what is wrong with an answer.
_Check = Callable[[records.Candidate], str | None]


@dataclasses.dataclass(frozen=True)
class Optimized:
  """A query's prompts.

  Attributes:
    rendered: the exact chat text given to the model (of the last rewrite, and of the
      first candidate, where there are more).
    prompt: the first of `prompts` that the guard let through, else the first.
    prompts: all candidates.
    problem: what the guard found in `prompt`; None when it is good.
  """

  query: str
  rendered: str
  prompt: str
  prompts: tuple[str, ...]
  problem: str | None


def optimize(
  policy: lm.LanguageModel,
  queries: Sequence[str],
  wanted: settings.Settings,
  *,
  guard: bool = True,
  language: str = guards.LANGUAGE,
  iterations: int = 1,
  slots: int = 32,
  listen: Callable[[pool.Update], None] | None = None,
) -> list[Optimized]:
  """Rewrites queries, and rewrites the rewrites (paper, table 6).

  Args:
    guard: try again, up to `ATTEMPTS` times, what the guard finds unusable.
    language: see `guard.problem`.
    iterations: 1 rewrites the query; more rewrite each prompt in turn.
    listen: is told of the last rewrite's tokens as they are drawn.
  """
  check = functools.partial(guards.problem, language=language) if guard else None
  hear = [None] * (iterations - 1) + [listen]
  asked = [policy.prompt(query) for query in queries]
  answers = _guarded(policy, asked, wanted, check, slots, hear[0])
  made = [
    [(prompt, answer) for answer in row]
    for prompt, row in zip(asked, answers, strict=True)
  ]
  # From here on every candidate goes its own way.
  one = dataclasses.replace(wanted, num_candidates=1)
  for told in hear[1:]:
    asked = [policy.prompt(answer.prompt) for row in made for _, answer in row]
    answers = _guarded(policy, asked, one, check, slots, told)
    pairs = zip(asked, (row[0] for row in answers), strict=True)
    made = [[next(pairs) for _ in row] for row in made]
  return [_best(query, row, check) for query, row in zip(queries, made, strict=True)]


def _best(
  query: str,
  made: list[tuple[lm.Prompt, records.Candidate]],
  check: _Check | None,
) -> Optimized:
  problems = [check(answer) if check else None for _, answer in made]
  best = problems.index(None) if None in problems else 0
  prompt, answer = made[best]
  prompts = tuple(answer.prompt for _, answer in made)
  return Optimized(query, prompt.rendered, answer.prompt, prompts, problems[best])


def _guarded(
  policy: lm.LanguageModel,
  prompts: Sequence[lm.Prompt],
  wanted: settings.Settings,
  check: _Check | None,
  slots: int,
  listen: Callable[[pool.Update], None] | None,
) -> list[tuple[records.Candidate, ...]]:
  """The candidates of each prompt, those with a problem drawn again with new noise."""
  answers: dict[int, list[records.Candidate]] = {}
  again = list(range(len(prompts)))
  for ask in attempts(wanted, check is not None):
    chosen = [prompts[place] for place in again]
    rows = generate.stream(policy, chosen, ask, slots=slots, listen=listen)
    for number, row in rows:
      kept = answers.setdefault(again[number], list(row))
      for index, answer in enumerate(row):
        if check and check(kept[index]) and not check(answer):
          kept[index] = answer
    again = [p for p in again if check and any(map(check, answers[p]))]
    if not again:
      break
  return [tuple(answers[place]) for place in range(len(prompts))]


def attempts(wanted: settings.Settings, guard: bool) -> list[settings.Settings]:
  """What to ask for, in order, until the guard finds nothing: each with new noise."""
  # The most probable answer is the same each time.
  count = ATTEMPTS if guard and wanted.temperature > 0 else 1
  return [
    dataclasses.replace(wanted, seed=wanted.seed + n * _RETRY) for n in range(count)
  ]


def optimize_file(
  policy: lm.LanguageModel,
  path: epath.PathLike,
  output: epath.PathLike,
  wanted: settings.Settings,
  *,
  guard: bool = True,
  language: str = guards.LANGUAGE,
  iterations: int = 1,
  slots: int = 32,
) -> dict[str, int]:
  """Rewrites a file of queries (see `queries.read`) to JSON Lines of `Optimized` rows.

  A row is published with its block of queries; run again, what is there is kept. The
  rows of the finished file are in the queries' order.

  Raises:
    UserError: no queries, or the output holds rows made with other settings.
  """
  queries = _read(epath.Path(path))
  made_with = dataclasses.asdict(wanted) | {
    "guard": guard,
    "language": language,
    "iterations": iterations,
    "precision": policy.precision,
    "model": policy.fingerprint(),
  }
  rows = _resume(epath.Path(output), made_with)
  missing = [query for query in queries if query not in rows]
  with console.progress("optimize", len(queries), len(queries) - len(missing)) as bar:
    for start in range(0, len(missing), BLOCK):
      block = missing[start : start + BLOCK]
      for row in optimize(
        policy,
        block,
        wanted,
        guard=guard,
        language=language,
        iterations=iterations,
        slots=slots,
      ):
        rows[row.query] = row
      records.write(output, [rows[query] for query in queries if query in rows])
      bar(len(block), "")
  flagged = sum(rows[query].problem is not None for query in queries)
  return {"queries": len(queries), "made": len(missing), "with_problem": flagged}


def _read(path: epath.Path) -> list[str]:
  queries, aside = queries_lib.load(path)
  for row in aside:
    console.say(f"{path}: left out {row.text[:60]!r}: {row.reason}")
  return list(dict.fromkeys(query.asked for query in queries))


def _resume(output: epath.Path, made_with: dict[str, Any]) -> dict[str, Optimized]:
  """The rows that are there; a file beside them says what they were made with."""
  beside = output.parent / f"{output.name}.settings.json"
  if not output.exists() or not beside.exists():
    if output.exists():
      raise errors.UserError(f"{output} exists and was not begun here; name another")
    files.write_json(beside, made_with)
    return {}
  found = files.read_json(beside)
  for key, value in made_with.items():
    if found.get(key) != value:
      raise errors.UserError(
        f"{output} holds prompts made with {key}={found.get(key)!r}, asked for"
        f" {key}={value!r}; name another --output or remove it"
      )
  return {row.query: row for row in records.read(output, Optimized)}
