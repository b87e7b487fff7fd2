"""Rewrites queries into prompts with the trained model."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence

from vpo_jax import records
from vpo_jax.predict import predictor as predictors
from vpo_jax.promises import promises as promises_lib
from vpo_jax.promises import query_flags, targets
from vpo_jax.sample import generate, lm, pool, settings
from vpo_jax.serve import guard as guards
from vpo_jax.serve import judge as judges

ATTEMPTS = 3  # the first and two retries
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
    problem: why `prompt` is unusable: what the guard or the judge says, or that the
      target cannot read all of it; None if it is usable.
    gains: with a predictor, each prompt's predicted reward minus the mean of them all;
      None for a prompt that it cannot read.
    spans: what became of the query's protected spans (`promises.Kept`).
    tokens: the target's tokens of `prompt`; None without a target.
    budget: whether the target reads all of `prompt` (`promises.Kept`).
    negative_prompt: what the query's negative flags exclude, if the target takes a
      negative prompt.
    verified: the judge's verdict on `prompt` (`judge.Judge`); "" without a judge.
  """

  query: str
  rendered: str
  prompt: str
  prompts: tuple[str, ...]
  problem: str | None
  gains: tuple[float | None, ...] = ()
  spans: dict[str, str] = dataclasses.field(default_factory=dict)
  tokens: int | None = None
  budget: promises_lib.Budget = ""
  negative_prompt: str = ""
  verified: str = ""


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
  target: targets.Target | None = None,
  judge: judges.Judge | None = None,
) -> list[Optimized]:
  """Rewrites queries, optionally several times (paper, table 6).

  Args:
    guard: sample unusable prompts again, up to `ATTEMPTS` times in all. A prompt that
      lacks a protected span of its query, or that the target cannot read to its end, is
      unusable. Both are pointed out in the next attempts, and a listed word that is not
      in the query in the first one too; if all fail, the spans are inserted into the
      first whose only problem this is, and it is shortened.
    language: see `guard.problem`; a target has its own.
    iterations: 1 rewrites the query; more also rewrite each prompt in turn.
    slots: candidates decoded at once.
    listen: called with the last iteration's tokens as they are drawn.
    predictor: chooses among the candidates that pass the guard (best of N). They are
      then sampled again only if none of a query's passes.
    keep: words that are protected in every prompt, beside the spans of its query.
    target: the video model that the prompts are for.
    judge: a prompt that it does not find aligned with its query is unusable too.
  """
  enough = any if predictor else all
  judge = judges.remembering(judge) if judge else None
  language = target.profile.language if target else language
  check = functools.partial(guards.problem, language=language) if guard else None
  listeners = [None] * (iterations - 1) + [listen]
  promises = [
    promises_lib.of_query(query, keep, target)
    if guard
    else promises_lib.unchecked(target)
    for query in queries
  ]
  judges_N: list[judges.Judge | None] = [None] * (iterations - 1) + [judge]
  texts = [
    _Text(query, query, kept) for query, kept in zip(queries, promises, strict=True)
  ]
  sample = functools.partial(_sample, policy, check=check, enough=enough, slots=slots)
  rows = sample(texts, sampling, listen=listeners[0], judge=judges_N[0])
  # Later iterations rewrite each candidate separately.
  single = dataclasses.replace(sampling, num_candidates=1)
  for listener, judge_now in zip(listeners[1:], judges_N[1:], strict=True):
    texts = [
      _Text(answer.prompt, query, kept)
      for query, row, kept in zip(queries, rows, promises, strict=True)
      for _, answer in row
    ]
    answers = sample(texts, single, listen=listener, judge=judge_now)
    pairs = (row[0] for row in answers)
    rows = [[next(pairs) for _ in row] for row in rows]
  gains: list[list[float | None]] = [[] for _ in rows]
  if predictor:
    texts = [[answer.prompt for _, answer in row] for row in rows]
    gains = predictor.gains(policy, queries, texts)
  results = [
    _optimized(query, row, kept, check, gains_K)
    for query, row, kept, gains_K in zip(queries, rows, promises, gains, strict=True)
  ]
  return _verified(results, judge) if judge else results


def _verified(results: list[Optimized], judge: judges.Judge) -> list[Optimized]:
  """The results with the judge's verdicts on those that are usable otherwise."""
  usable = [result for result in results if result.problem is None]
  verdicts = iter(judge([(result.query, result.prompt) for result in usable]))

  def judged(result: Optimized) -> Optimized:
    if result.problem is not None:
      return result
    verdict = next(verdicts)
    problem = judges.problem(verdict)
    return dataclasses.replace(result, verified=verdict, problem=problem)

  return [judged(result) for result in results]


def _optimized(
  query: str,
  candidates: list[tuple[lm.Prompt, records.Candidate]],
  promises: promises_lib.Promises,
  check: _Check | None,
  gains_K: Sequence[float | None],
) -> Optimized:
  problems = [check(answer) if check else None for _, answer in candidates]
  broken = [promises.broken(answer.prompt) for _, answer in candidates]
  chosen = best(problems, gains_K, broken)
  kept = [
    promises.keep(answer.prompt, problem)
    for (_, answer), problem in zip(candidates, problems, strict=True)
  ]
  found = kept[chosen]
  return Optimized(
    query,
    candidates[chosen][0].rendered,
    found.prompt,
    tuple(one.prompt for one in kept),
    found.problem,
    tuple(gains_K),
    found.spans,
    found.tokens,
    found.budget,
    negative_prompt(query, promises.target),
  )


def negative_prompt(query: str, target: targets.Target | None) -> str:
  """What the query excludes, if the target takes a negative prompt; else ""."""
  takes = target is not None and target.profile.negative_prompt
  return query_flags.negative(query) if takes else ""


def best(
  problems: Sequence[str | None],
  gains_K: Sequence[float | None] = (),
  broken: Sequence[str | None] = (),
) -> int:
  """The first candidate without a problem, or with gains the one of the highest.

  Args:
    problems: the guard's, of each candidate. If all have one, all may be chosen.
    gains_K: predicted gains; None for a prompt that the predictor cannot read.
    broken: what each candidate does not keep; one that keeps everything is preferred.
  """
  fair = [k for k, problem in enumerate(problems) if problem is None]
  whole = [k for k in fair if not (broken and broken[k])]
  allowed = whole or fair or range(len(problems))

  def gain(k: int) -> float:
    found = gains_K[k] if gains_K else 0.0
    return -math.inf if found is None else found

  return max(allowed, key=gain)


@dataclasses.dataclass(frozen=True)
class _Text:
  """A text that is rewritten.

  Attributes:
    text: the query, or in later iterations a prompt for it.
    query: the query.
    promises: what the text's prompts must keep.
  """

  text: str
  query: str
  promises: promises_lib.Promises


def _sample(
  policy: lm.LanguageModel,
  texts: Sequence[_Text],
  sampling: settings.Settings,
  *,
  check: _Check | None,
  enough: Callable[[Iterable[bool]], bool],
  slots: int,
  listen: _OnUpdate | None,
  judge: judges.Judge | None,
) -> list[list[tuple[lm.Prompt, records.Candidate]]]:
  """The candidates of each text with what they answer; bad ones are sampled again.

  Args:
    enough: whether `all` or `any` of a text's candidates must pass the check.
  """
  rows: dict[int, list[tuple[lm.Prompt, records.Candidate]]] = {}

  def breaks(number: int, answer: records.Candidate) -> bool:
    if check is None:
      return False
    return bool(check(answer) or texts[number].promises.broken(answer.prompt))

  def verdicts(
    answers: Sequence[tuple[int, records.Candidate]],
  ) -> list[str]:
    pairs = [(texts[number].query, answer.prompt) for number, answer in answers]
    return judge(pairs) if judge else [""] * len(pairs)

  def rank(number: int, answer: records.Candidate) -> int:
    """0 for a prompt that passes, 1 for one that `Promises.keep` can repair."""
    if check and check(answer):
      return 3
    if breaks(number, answer):
      return 1
    return 0 if judges.problem(verdicts([(number, answer)])[0]) is None else 2

  def fails(number: int, answer: records.Candidate) -> bool:
    return rank(number, answer) > 0

  def prompt(number: int) -> lm.Prompt:
    text, promises = texts[number].text, texts[number].promises
    earlier = [answer.prompt for _, answer in rows.get(number, [])]
    return policy.prompt(promises.ask(text, earlier), promises.notes)

  pending = list(range(len(texts)))
  for attempt in attempts(sampling, check is not None):
    prompts = [prompt(number) for number in pending]
    drawn = list(generate.stream(policy, prompts, attempt, slots=slots, listen=listen))
    whole = [
      (pending[place], one)
      for place, answers in drawn
      for one in answers
      if not breaks(pending[place], one)
    ]
    verdicts(whole)  # all in parallel; the judge remembers them
    for place, answers in drawn:
      index, found = pending[place], [(prompts[place], one) for one in answers]
      row = rows.setdefault(index, found)
      for k, (_, answer) in enumerate(found):
        if rank(index, answer) < rank(index, row[k][1]):
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
