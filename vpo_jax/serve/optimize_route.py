"""POST /optimize: rewrites a query into a prompt that passes the guard."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import fastapi

from vpo_jax import errors, records
from vpo_jax.promises import promises
from vpo_jax.sample import lm
from vpo_jax.serve import api_errors, generation, guard, limits, optimize, protocol
from vpo_jax.serve import judge as judges
from vpo_jax.serve import service as services


def router(service: services.Service) -> fastapi.APIRouter:
  """The route /optimize."""
  routes = fastapi.APIRouter(responses=api_errors.RESPONSES)

  @routes.post(
    "/optimize", response_model=protocol.Optimized, responses=services.STREAMED
  )
  async def rewrite(body: protocol.OptimizeRequest, request: fastapi.Request):
    """Rewrites a query; 422 if the guard rejects every attempt.

    With `target`, the prompt fits what that video model's text encoder reads. With
    `best_of`, the prompt is the one of several that passes the guard and of which
    the server's predictor expects the highest video reward.

    With `stream`, the server-sent events are {"text": ...}, which continues the prompt;
    {"again": reason}, which starts it over; and last {"optimized": ...}.
    """
    attempts = _Attempts(service, body)
    first = await attempts.start()
    if body.stream:
      return services.event_stream(attempts.events(first))
    result = await generation.until_disconnect(request, attempts.run(first))
    if result.problem and attempts.guarded:
      raise unusable(result)
    return result

  return routes


async def optimize_one(
  service: services.Service, body: protocol.OptimizeRequest
) -> protocol.Optimized:
  """The answer to a request that is not streamed, with its problem if it has one.

  Raises:
    ApiError: the request is not valid.
  """
  attempts = _Attempts(service, body)
  return await attempts.run(await attempts.start())


def unusable(result: protocol.Optimized) -> api_errors.ApiError:
  """The error for a prompt that the guard rejects."""
  return api_errors.ApiError(
    422,
    f"the prompt {result.problem}; tried {result.attempts} times ('guard': false"
    " accepts any prompt)",
    param="query",
    code="unusable_prompt",
  )


class _Attempts:
  """The attempts of one request."""

  def __init__(self, service: services.Service, body: protocol.OptimizeRequest):
    self.guarded = body.guard is not False
    self._service = service
    self._query = limits.check_user_text(service.policy, body.query, "query")
    words = [limits.check_user_text(service.policy, w, "keep") for w in body.keep or ()]
    self._target = service.target(body.target) if body.target else None
    self._promises = promises.unchecked(self._target)
    if self.guarded:
      self._promises = promises.of_query(self._query, words, self._target)
    self._judge = judges.remembering(self._find_judge()) if body.verify else None
    self._language = service.guard_language
    if self._target:
      self._language = self._target.profile.language
    sampling = body.settings(
      service.limits, has_predictor=service.predictor is not None
    )
    self._attempts: list[tuple[int, lm.Prompt, records.Candidate]] = []
    self._samplings = optimize.attempts(sampling, self.guarded)

  def _find_judge(self) -> judges.Judge:
    if self._service.judge is None:
      message = "verify: the server was started without --judge; omit it"
      raise api_errors.ApiError(400, message, param="verify")
    return self._service.judge

  async def start(self) -> generation.Generation:
    prompt = await self._prompt(self._promises.ask(self._query, ()))
    return self._service.generate([prompt], self._samplings[0])

  async def _prompt(self, query: str) -> lm.Prompt:
    def make(text: str) -> lm.Prompt:
      return self._service.policy.prompt(text, self._promises.notes)

    return await self._service.render(make, query, "query")

  async def run(self, running: generation.Generation) -> protocol.Optimized:
    number, candidate = 1, await self._best(running)
    while await self._failure(running, candidate) and number < len(self._samplings):
      running = await self._retry(number, candidate)
      number, candidate = number + 1, await self._best(running)
    return await self._result(number)

  async def _best(self, running: generation.Generation) -> records.Candidate:
    """The candidate of the highest predicted reward among those that pass the guard."""
    candidates = await running.candidates()
    predictor, gains = self._service.predictor, [[]]
    if len(candidates) > 1 and predictor:
      prompts = [candidate.prompt for candidate in candidates]
      gains = await asyncio.to_thread(
        predictor.gains, self._service.policy, [self._query], [prompts]
      )
    problems = [self._problem(candidate) for candidate in candidates]
    broken = [self._promises.broken(candidate.prompt) for candidate in candidates]
    return candidates[optimize.best(problems, gains[0], broken)]

  async def events(self, running: generation.Generation) -> AsyncIterator[str]:
    for number in range(1, len(self._samplings) + 1):
      text, reason = "", ""
      async with contextlib.aclosing(running.deltas()) as deltas:
        async for delta in deltas:
          text, reason = text + delta.text, delta.finish_reason or ""
          if delta.text:
            yield json.dumps({"text": delta.text})
      finish_reason = "stop" if reason == "stop" else "length"
      candidate = records.Candidate(0, text, finish_reason, running.tokens)
      failure = await self._failure(running, candidate)
      if not failure or number == len(self._samplings):
        result = await self._result(number)
        yield json.dumps({"optimized": result.model_dump()})
        return
      yield json.dumps({"again": failure})
      running = await self._retry(number, candidate)

  def _problem(self, candidate: records.Candidate) -> str | None:
    if not self.guarded:
      return None
    return guard.problem(candidate, self._language)

  async def _failure(
    self, running: generation.Generation, candidate: records.Candidate
  ) -> str | None:
    """Why another attempt is worth it; remembers this one with its rank.

    A broken promise can be repaired, so it ranks before the judge's objections.
    """
    problem = self._problem(candidate)
    broken = None if problem else self._promises.broken(candidate.prompt)
    verdict = "" if problem or broken else await self._verdict(candidate.prompt)
    objection = judges.problem(verdict)
    rank = 3 if problem else 1 if broken else 2 if objection else 0
    self._attempts.append((rank, running.prompts[0], candidate))
    return problem or broken or objection

  async def _verdict(self, prompt: str) -> str:
    """The judge's verdict; "" if it is not asked."""
    if self._judge is None:
      return ""
    try:
      return (await asyncio.to_thread(self._judge, [(self._query, prompt)]))[0]
    except errors.UserError as error:
      raise api_errors.ApiError(502, f"the judge cannot be used: {error}") from error

  async def _retry(
    self, number: int, failed: records.Candidate
  ) -> generation.Generation:
    self._service.metrics.guarded.inc()
    prompt = await self._prompt(self._promises.ask(self._query, [failed.prompt]))
    return self._service.generate([prompt], self._samplings[number], retry=True)

  async def _result(self, attempts: int) -> protocol.Optimized:
    """The first of the best attempts, repaired."""
    _, prompt, candidate = min(self._attempts, key=lambda attempt: attempt[0])
    found = self._promises.keep(candidate.prompt, self._problem(candidate))
    verdict = "" if found.problem else await self._verdict(found.prompt)
    return protocol.Optimized(
      query=self._query,
      prompt=found.prompt,
      rendered=prompt.rendered,
      finish_reason=candidate.finish_reason,
      problem=found.problem or judges.problem(verdict),
      attempts=attempts,
      seed=self._samplings[0].seed,
      spans=found.spans,
      target=self._target.name if self._target else None,
      tokens=found.tokens,
      budget=found.budget or None,
      negative_prompt=optimize.negative_prompt(self._query, self._target) or None,
      verified=verdict or None,
    )
