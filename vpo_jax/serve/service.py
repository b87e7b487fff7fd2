"""What all routes of a server share."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import responses

from vpo_jax.sample import lm, settings
from vpo_jax.serve import answers, limits, metrics, refusals
from vpo_jax.serve import engine as engines

_LOG = logging.getLogger("uvicorn.error")

# For the schema: what a route answers that also streams.
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
    guard_language: what the guard wants prompts to be in; "" is any.
    aliases: other names of the optimizer, for clients that cannot be told one.
  """

  policy: lm.LanguageModel
  engine: engines.Engine
  limits: limits.Limits
  metrics: metrics.Metrics
  guard_language: str
  aliases: tuple[str, ...] = ()
  began: int = dataclasses.field(default_factory=lambda: int(time.time()))

  async def prompt(self, make: Callable[..., lm.Prompt], *given: Any) -> lm.Prompt:
    """`make(*given)`, aside from the loop: a long text takes its time.

    Raises:
      Refusal: it has more tokens than are taken.
    """
    prompt = await asyncio.to_thread(make, *given)
    limits.room(self.policy, prompt, self.limits)
    return prompt

  def ask(
    self,
    prompt: lm.Prompt,
    wanted: settings.Settings,
    *,
    stops: Sequence[str] = (),
    again: bool = False,
  ) -> answers.Answer:
    """Queues a prompt; see `answers.Answer`."""
    return answers.Answer(
      self.policy, self.engine, self.metrics, prompt, wanted, stops=stops, again=again
    )


def events(made: AsyncIterator[str]) -> responses.StreamingResponse:
  """Server-sent events of JSON texts; an exception becomes the last of them."""

  async def lines() -> AsyncIterator[str]:
    try:
      async for text in made:
        yield f"data: {text}\n\n"
    except Exception as error:
      refusal = refusals.of(error)
      if refusal.status == 500:
        _LOG.exception("while an answer was streamed")
      yield f"data: {refusal.body.model_dump_json()}\n\n"

  headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
  return responses.StreamingResponse(
    lines(), media_type="text/event-stream", headers=headers
  )
