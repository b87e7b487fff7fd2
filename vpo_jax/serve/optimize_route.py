"""POST /optimize: a query in, a prompt out that the guard let through."""

import contextlib
import json
from collections.abc import AsyncIterator

import fastapi

from vpo_jax import records
from vpo_jax.serve import answers, guard, limits, optimize, protocol, refusals
from vpo_jax.serve import service as services


def router(service: services.Service) -> fastapi.APIRouter:
  routes = fastapi.APIRouter(responses=refusals.DECLARED)

  @routes.post(
    "/optimize", response_model=protocol.Optimized, responses=services.STREAMED
  )
  async def rewrite(asked: protocol.OptimizeRequest, request: fastapi.Request):
    """Answers 422 where no attempt gave a usable prompt.

    With `stream`, server-sent events: {"text": ...} goes on with the prompt, {"again":
    why} begins it anew, {"optimized": ...} is the last one.
    """
    work = _Rewriting(service, asked)
    first = await work.ask()
    if asked.stream:
      return services.events(work.events(first))
    made = await answers.unless_gone(request, work.run(first))
    if made.problem and work.guarded:
      raise unusable(made)
    return made

  return routes


def unusable(made: protocol.Optimized) -> refusals.Refusal:
  return refusals.Refusal(
    422,
    f"the prompt {made.problem}; tried {made.attempts} times ('guard': false passes it"
    " on as it is)",
    param="query",
    code="unusable_prompt",
  )


class _Rewriting:
  """One request's attempts."""

  def __init__(self, service: services.Service, asked: protocol.OptimizeRequest):
    self.guarded = asked.guard is not False
    self._service = service
    self._query = limits.unmarked(service.policy, asked.query, "query")
    wanted = asked.settings(service.limits)
    self._attempts = optimize.attempts(wanted, self.guarded)

  async def ask(self) -> answers.Answer:
    prompt = await self._service.prompt(self._service.policy.prompt, self._query)
    return self._service.ask(prompt, self._attempts[0])

  async def run(self, answer: answers.Answer) -> protocol.Optimized:
    number, made = 1, (await answer.whole())[0]
    while (problem := self._problem(made)) and number < len(self._attempts):
      answer = self._again(answer, number)
      number, made = number + 1, (await answer.whole())[0]
    return self._optimized(answer, made, problem, number)

  async def events(self, answer: answers.Answer) -> AsyncIterator[str]:
    for number in range(1, len(self._attempts) + 1):
      text, reason = "", ""
      async with contextlib.aclosing(answer.pieces()) as pieces:
        async for piece in pieces:
          text, reason = text + piece.text, piece.finish_reason or ""
          if piece.text:
            yield json.dumps({"text": piece.text})
      ended = "stop" if reason == "stop" else "length"
      made = records.Candidate(0, text, ended, answer.tokens)
      problem = self._problem(made)
      if not problem or number == len(self._attempts):
        optimized = self._optimized(answer, made, problem, number)
        yield json.dumps({"optimized": optimized.model_dump()})
        return
      yield json.dumps({"again": problem})
      answer = self._again(answer, number)

  def _problem(self, made: records.Candidate) -> str | None:
    return guard.problem(made, self._service.guard_language) if self.guarded else None

  def _again(self, answer: answers.Answer, number: int) -> answers.Answer:
    self._service.metrics.guarded.inc()
    return self._service.ask(answer.prompt, self._attempts[number], again=True)

  def _optimized(
    self,
    answer: answers.Answer,
    made: records.Candidate,
    problem: str | None,
    attempts: int,
  ) -> protocol.Optimized:
    return protocol.Optimized(
      query=self._query,
      prompt=made.prompt,
      rendered=answer.prompt.rendered,
      finish_reason=made.finish_reason,
      problem=problem,
      attempts=attempts,
      seed=self._attempts[0].seed,
    )
