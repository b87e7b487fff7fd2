"""The candidates of a request while the engine generates them."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import TypeVar

import fastapi

from vpo_jax import records
from vpo_jax.sample import lm, pool, settings
from vpo_jax.serve import api_errors, metrics, streaming
from vpo_jax.serve import engine as engines

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Delta:
  """New text of a candidate, and its finish reason if it has ended."""

  index: int
  text: str
  finish_reason: str | None


class ClientDisconnected(api_errors.ApiError):
  """The client closed the connection."""

  def __init__(self):
    super().__init__(499, "the client closed the connection")  # nginx's status


class Generation:
  """One request's candidates in progress.

  Candidate `k` of prompt `p` has the index `p * num_candidates + k`, as in the OpenAI
  API.

  Attributes:
    prompts: the prompts.
    sampling: their sampling settings.
    tokens: tokens generated so far, over all candidates.
  """

  def __init__(
    self,
    policy: lm.LanguageModel,
    engine: engines.Engine,
    counters: metrics.Metrics,
    prompts: Sequence[lm.Prompt],
    sampling: settings.Settings,
    *,
    stops: Sequence[str] = (),
    retry: bool = False,
  ):
    """Submits the prompts, so that a full queue is reported before a response starts.

    Args:
      stops: texts that end a candidate; they are not part of it.
      retry: see `Engine.submit`.

    Raises:
      QueueFull, EngineStopped: see `Engine.submit`.
    """
    self.prompts, self.sampling = prompts, sampling
    self.tokens = 0
    self._engine, self._metrics = engine, counters
    self._count = len(prompts) * sampling.num_candidates
    self._texts = [streaming.StoppingText(policy, stops) for _ in range(self._count)]
    self._updates: asyncio.Queue[tuple[int, pool.Update | None]] = asyncio.Queue()
    self._start = time.monotonic()
    self._loop = asyncio.get_running_loop()
    self._requests: list[engines.Request] = []
    try:
      for number, prompt in enumerate(prompts):
        on_update = self._enqueue(number * sampling.num_candidates)
        request = engine.submit(prompt, sampling, on_update, retry=retry)
        self._requests.append(request)
    except (engines.QueueFull, engines.EngineStopped):
      self._cancel()
      raise

  def _enqueue(self, first: int) -> engines.OnUpdate:
    """Queues the updates of the prompt whose first candidate has index `first`."""

    def on_update(update: pool.Update | None) -> None:
      with contextlib.suppress(RuntimeError):  # the event loop is closed
        self._loop.call_soon_threadsafe(self._updates.put_nowait, (first, update))

    return on_update

  def _cancel(self) -> None:
    for request in self._requests:
      self._engine.cancel(request)

  @property
  def prompt_tokens(self) -> int:
    """Tokens of all prompts."""
    return sum(len(prompt.tokens) for prompt in self.prompts)

  async def deltas(self) -> AsyncGenerator[Delta, None]:
    """Yields text as it is generated; closing the generator frees the slots.

    Raises:
      EngineStopped: the engine failed.
    """
    running = set(range(self._count))
    try:
      while running:
        first, update = await self._updates.get()
        if update is None:
          raise engines.EngineStopped("the sampler failed")
        if not self.tokens:
          self._metrics.first_token.observe(time.monotonic() - self._start)
        index = first + update.job.index
        if index not in running:
          continue  # the engine continues, as it does not know stop texts
        self.tokens += len(update.tokens)
        text = self._texts[index]
        new = text.add(update.tokens, last=update.finish_reason is not None)
        finish_reason = "stop" if text.stopped else update.finish_reason
        if finish_reason:
          running.discard(index)
        if new or finish_reason:
          yield Delta(index, new, finish_reason)
    finally:
      self._cancel()
      self._metrics.tokens.labels("prompt").inc(self.prompt_tokens)
      self._metrics.tokens.labels("new").inc(self.tokens)

  async def candidates(self) -> list[records.Candidate]:
    """Waits for all candidates; their `tokens` include tokens after a stop text."""
    texts, reasons = [""] * self._count, [""] * self._count
    async with contextlib.aclosing(self.deltas()) as deltas:
      async for delta in deltas:
        texts[delta.index] += delta.text
        reasons[delta.index] = delta.finish_reason or ""
    return [
      records.Candidate(
        index, text, "stop" if reason == "stop" else "length", self._texts[index].count
      )
      for index, (text, reason) in enumerate(zip(texts, reasons, strict=True))
    ]


async def until_disconnect(request: fastapi.Request, work: Awaitable[T]) -> T:
  """Awaits `work`; cancels it if the client disconnects.

  Raises:
    ClientDisconnected: the client closed the connection.
  """
  task = asyncio.ensure_future(work)
  disconnect = asyncio.ensure_future(_disconnected(request))
  try:
    await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
      raise ClientDisconnected
    return task.result()
  finally:
    for each in (task, disconnect):
      each.cancel()
    await asyncio.gather(task, disconnect, return_exceptions=True)


async def _disconnected(request: fastapi.Request) -> None:
  while (await request.receive())["type"] != "http.disconnect":
    pass
