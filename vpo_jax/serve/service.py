"""The state that all routes of a server share."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import responses

from vpo_jax.predict import predictor as predictors
from vpo_jax.promises import targets as targets_lib
from vpo_jax.sample import lm, settings
from vpo_jax.serve import api_errors, generation, limits, metrics
from vpo_jax.serve import engine as engines
from vpo_jax.serve import judge as judges

_LOG = logging.getLogger("uvicorn.error")

# The 200 response of routes that can stream, for the OpenAPI schema.
_EVENT = {
  "type": "object",
  "properties": {"data": {"type": "string"}},
  "required": ["data"],
}
STREAMED: dict[int | str, dict[str, Any]] = {
  200: {"content": {"text/event-stream": {"schema": _EVENT}}}
}


@dataclasses.dataclass(frozen=True)
class Service:
  """One model on one engine.

  Attributes:
    policy: the model.
    engine: its sampler.
    limits: what a request may ask for.
    metrics: the server's counters.
    guard_language: language that the guard requires; "" allows any.
    aliases: other names of the optimizer, for clients with a fixed model name.
    predictor: chooses among several prompts, if there is one; it was trained with the
      policy.
    targets: the video models that a request may name.
    judge: checks a prompt if a request asks for it.
    created: start time, in seconds since 1970.
  """

  policy: lm.LanguageModel
  engine: engines.Engine
  limits: limits.Limits
  metrics: metrics.Metrics
  guard_language: str
  aliases: tuple[str, ...] = ()
  predictor: predictors.Predictor | None = None
  targets: tuple[targets_lib.Target, ...] = ()
  judge: judges.Judge | None = None
  created: int = dataclasses.field(default_factory=lambda: int(time.time()))

  def target(self, name: str) -> targets_lib.Target:
    """The target of a request's field `target`.

    Raises:
      ApiError: the server was started without it.
    """
    for target in self.targets:
      if target.name == name:
        return target
    has = ", ".join(target.name for target in self.targets) or "none (see --targets)"
    message = f"unknown target {name!r}; this server has {has}"
    raise api_errors.ApiError(400, message, param="target", code="invalid_value")

  async def render(
    self, make: Callable[[Any], lm.Prompt], value: Any, param: str
  ) -> lm.Prompt:
    """`make(value)` in a thread, since tokenizing a long text would block the loop.

    Args:
      make: makes the prompt.
      value: its argument.
      param: the request's field that the value is from.

    Raises:
      ApiError: the prompt is too long.
    """
    prompt = await asyncio.to_thread(make, value)
    limits.check_prompt(self.policy, prompt, self.limits, param)
    return prompt

  def generate(
    self,
    prompts: Sequence[lm.Prompt],
    sampling: settings.Settings,
    *,
    stops: Sequence[str] = (),
    retry: bool = False,
  ) -> generation.Generation:
    """Submits the prompts of a request; see `generation.Generation`."""
    return generation.Generation(
      self.policy,
      self.engine,
      self.metrics,
      prompts,
      sampling,
      stops=stops,
      retry=retry,
    )


def event_stream(texts: AsyncIterator[str]) -> responses.StreamingResponse:
  """Sends JSON texts as server-sent events; an exception becomes the last event."""

  async def lines() -> AsyncIterator[str]:
    try:
      async for text in texts:
        yield f"data: {text}\n\n"
    except Exception as error:
      api_error = api_errors.from_exception(error)
      if api_error.status == 500:
        _LOG.exception("error while streaming")
      yield f"data: {api_error.body.model_dump_json()}\n\n"

  headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
  return responses.StreamingResponse(
    lines(), media_type="text/event-stream", headers=headers
  )
