"""Rewrites queries into prompts with the trained model."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from etils import epath

from vpo_jax import errors, files, json_input, records
from vpo_jax import queries as queries_lib
from vpo_jax.predict import predictor as predictors
from vpo_jax.runtime import console
from vpo_jax.sample import generate, lm, pool, settings
from vpo_jax.serve import guard as guards
from vpo_jax.serve import spans as spans_lib

ATTEMPTS = 3  # the first and two retries
BLOCK = 64  # queries of a file between two writes
_SEED_STEP = 2**32  # between attempts; users' seeds are smaller

# Returns the problem of an answer, or None.
_Check = Callable[[records.Candidate], str | None]
_OnUpdate = Callable[[pool.Update], None]


@dataclasses.dataclass(frozen=True)
class Optimized:
  """A query's prompts.

  Attributes:
    query: the query.
    rendered: the exact chat text that `prompt` answers, in the last iteration.
    prompt: the first of `prompts` that passes the guard, else the first; with a
      predictor that of the highest predicted gain instead of the first.
    prompts: all candidates.
    problem: why the guard rejects `prompt`; None if it passes.
    gains: with a predictor, each prompt's predicted reward minus the mean of them all;
      None for a prompt that it cannot read.
    spans: the protected spans of the query (`spans`): "kept" if the model wrote it,
      "repaired" if it was inserted, "lost" if the prompt has another problem too.
  """

  query: str
  rendered: str
  prompt: str
  prompts: tuple[str, ...]
  problem: str | None
  gains: tuple[float | None, ...] = ()
  spans: dict[str, str] = dataclasses.field(default_factory=dict)


def optimize(
  policy: lm.LanguageModel,
  queries: Sequence[str],
  sampling: settings.Settings,
  *,
  guard: bool = True,
  language: str = guards.LANGUAGE,
  iterations: int = 1,
  slots: int = 32,
  listen: _OnUpdate | None = None,
  predictor: predictors.Predictor | None = None,
  keep: Sequence[str] = (),
) -> list[Optimized]:
  """Rewrites queries, optionally several times (paper, table 6).

  Args:
    guard: sample unusable prompts again, up to `ATTEMPTS` times in all. A prompt that
      lacks a protected span of its query is unusable; the spans are pointed out in the
      next attempts, and inserted if the last one lacks them too.
    language: see `guard.problem`.
    iterations: 1 rewrites the query; more also rewrite each prompt in turn.
    slots: candidates decoded at once.
    listen: called with the last iteration's tokens as they are drawn.
    predictor: chooses among the candidates that pass the guard (best of N). They are
      then sampled again only if none of a query's passes.
    keep: words that are protected in every prompt, beside the spans of its query.
  """
  enough = any if predictor else all
  check = functools.partial(guards.problem, language=language) if guard else None
  listeners = [None] * (iterations - 1) + [listen]
  spans = [spans_lib.find(query, keep) if guard else () for query in queries]
  texts = list(zip(queries, spans, strict=True))
  rows = _sample(policy, texts, sampling, check, enough, slots, listeners[0])
  # Later iterations rewrite each candidate separately.
  single = dataclasses.replace(sampling, num_candidates=1)
  for listener in listeners[1:]:
    texts = [
      (answer.prompt, kept)
      for row, kept in zip(rows, spans, strict=True)
      for _, answer in row
    ]
    answers = _sample(policy, texts, single, check, enough, slots, listener)
    pairs = (row[0] for row in answers)
    rows = [[next(pairs) for _ in row] for row in rows]
  gains: list[list[float | None]] = [[] for _ in rows]
  if predictor:
    texts = [[answer.prompt for _, answer in row] for row in rows]
    gains = predictor.gains(policy, queries, texts)
  return [
    _optimized(query, row, kept, check, gains_K)
    for query, row, kept, gains_K in zip(queries, rows, spans, gains, strict=True)
  ]


def _optimized(
  query: str,
  candidates: list[tuple[lm.Prompt, records.Candidate]],
  spans: Sequence[spans_lib.Span],
  check: _Check | None,
  gains_K: Sequence[float | None],
) -> Optimized:
  problems = [check(answer) if check else None for _, answer in candidates]
  lost = [spans_lib.missing(answer.prompt, spans) for _, answer in candidates]
  chosen = best(problems, gains_K, lost)
  repaired = [
    repair(answer.prompt, problem, spans)
    for (_, answer), problem in zip(candidates, problems, strict=True)
  ]
  prompt, found = repaired[chosen]
  return Optimized(
    query,
    candidates[chosen][0].rendered,
    prompt,
    tuple(text for text, _ in repaired),
    problems[chosen],
    tuple(gains_K),
    found,
  )


def repair(
  prompt: str, problem: str | None, spans: Sequence[spans_lib.Span]
) -> tuple[str, dict[str, str]]:
  """The prompt with all spans, and what became of each (`Optimized.spans`).

  Args:
    problem: the guard's; a prompt that has one is returned as it is.
  """
  lost = spans_lib.missing(prompt, spans)
  outcome = "lost" if problem else "repaired"
  found = {span.text: outcome if span in lost else "kept" for span in spans}
  return (prompt if problem or not lost else spans_lib.insert(prompt, lost)), found


def best(
  problems: Sequence[str | None],
  gains_K: Sequence[float | None] = (),
  lost: Sequence[Sequence[spans_lib.Span]] = (),
) -> int:
  """The first candidate without a problem, or with gains the one of the highest.

  Args:
    problems: the guard's, of each candidate. If all have one, all may be chosen.
    gains_K: predicted gains; None for a prompt that the predictor cannot read.
    lost: the spans that each candidate lacks; one that lacks none is preferred.
  """
  fair = [k for k, problem in enumerate(problems) if problem is None]
  whole = [k for k in fair if not (lost and lost[k])]
  allowed = whole or fair or range(len(problems))

  def gain(k: int) -> float:
    found = gains_K[k] if gains_K else 0.0
    return -math.inf if found is None else found

  return max(allowed, key=gain)


def _sample(
  policy: lm.LanguageModel,
  texts: Sequence[tuple[str, Sequence[spans_lib.Span]]],
  sampling: settings.Settings,
  check: _Check | None,
  enough: Callable[[Iterable[bool]], bool],
  slots: int,
  listen: _OnUpdate | None,
) -> list[list[tuple[lm.Prompt, records.Candidate]]]:
  """The candidates of each text with what they answer; bad ones are sampled again.

  Args:
    texts: what is rewritten, with its protected spans.
    enough: whether `all` or `any` of a text's candidates must pass the check.
  """

  def fails(number: int, answer: records.Candidate) -> bool:
    if check is None:
      return False
    return bool(check(answer) or spans_lib.missing(answer.prompt, texts[number][1]))

  rows: dict[int, list[tuple[lm.Prompt, records.Candidate]]] = {}
  pending = list(range(len(texts)))
  for number, attempt in enumerate(attempts(sampling, check is not None)):
    prompts = [
      policy.prompt(spans_lib.ask(text, spans) if number and spans else text)
      for text, spans in (texts[index] for index in pending)
    ]
    drawn = generate.stream(policy, prompts, attempt, slots=slots, listen=listen)
    for place, answers in drawn:
      index, found = pending[place], [(prompts[place], one) for one in answers]
      row = rows.setdefault(index, found)
      for k, (_, answer) in enumerate(found):
        if fails(index, row[k][1]) and not fails(index, answer):
          row[k] = found[k]
    pending = [
      index
      for index in pending
      if not enough(not fails(index, answer) for _, answer in rows[index])
    ]
    if not pending:
      break
  return [rows[index] for index in range(len(texts))]


def attempts(sampling: settings.Settings, guard: bool) -> list[settings.Settings]:
  """The settings of each attempt, which differ in their seed.

  Args:
    sampling: settings of the first attempt.
    guard: whether there are retries.
  """
  # Greedy decoding gives the same answer each time.
  count = ATTEMPTS if guard and sampling.temperature > 0 else 1
  return [
    dataclasses.replace(sampling, seed=sampling.seed + n * _SEED_STEP)
    for n in range(count)
  ]


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
) -> dict[str, int]:
  """Rewrites a file of queries (see `queries.read`) to JSON Lines of `Optimized` rows.

  Rows are written a block at a time, in the order of the queries; a second run makes
  only the missing ones.

  Raises:
    UserError: no queries, or `output` has rows made with other settings.
  """
  queries = _read(epath.Path(path))
  made_with = dataclasses.asdict(sampling) | {
    "guard": guard,
    "language": language,
    "iterations": iterations,
    "precision": policy.precision,
    "model": policy.fingerprint(),
    "predictor": predictor.fingerprint() if predictor else None,
    "keep": list(keep) or None,
  }
  rows = _resume(epath.Path(output), made_with)
  missing = [query for query in queries if query not in rows]
  with console.progress("optimize", len(queries), len(queries) - len(missing)) as bar:
    for start in range(0, len(missing), BLOCK):
      block = missing[start : start + BLOCK]
      for row in optimize(
        policy,
        block,
        sampling,
        guard=guard,
        language=language,
        iterations=iterations,
        slots=slots,
        predictor=predictor,
        keep=keep,
      ):
        rows[row.query] = row
      records.write(output, [rows[query] for query in queries if query in rows])
      bar(len(block), "")
  flagged = sum(rows[query].problem is not None for query in queries)
  return {"queries": len(queries), "made": len(missing), "with_problem": flagged}


def _read(path: epath.Path) -> list[str]:
  queries, set_aside = queries_lib.load(path)
  for row in set_aside:
    console.say(f"{path}: set aside {row.text[:60]!r}: {row.reason}")
  return list(dict.fromkeys(query.text for query in queries))


def _resume(output: epath.Path, made_with: dict[str, Any]) -> dict[str, Optimized]:
  """The rows of an earlier run, whose settings are stored next to `output`."""
  path = output.parent / f"{output.name}.settings.json"
  if not output.exists() or not path.exists():
    if output.exists():
      raise errors.UserError(
        f"{output} exists, but not its {path.name}; choose another --output"
      )
    files.write_json(path, made_with)
    return {}
  previous = json_input.value(path)
  for key, value in made_with.items():
    if previous.get(key) != value:
      raise errors.UserError(
        f"{output} was made with {key}={previous.get(key)!r}, but this run has"
        f" {key}={value!r}; choose another --output or remove it"
      )
  return {row.query: row for row in records.read(output, Optimized)}
