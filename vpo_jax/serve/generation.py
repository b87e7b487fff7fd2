"""What the engine draws, as text for one client."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import TypeVar

import fastapi

from vpo_jax import records
from vpo_jax.sample import lm, pool, settings
from vpo_jax.serve import engine as engines
from vpo_jax.serve import metrics, refusals, streaming

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Piece:
  """Text that a candidate goes on with, and its finish reason if it ends."""

  index: int
  text: str
  finish_reason: str | None


class Gone(refusals.Refusal):
  """The client hung up; nobody reads this."""

  def __init__(self):
    super().__init__(499, "the client hung up")  # nginx's status


class Answer:
  """A prompt's candidates, as they come."""

  def __init__(
    self,
    policy: lm.LanguageModel,
    engine: engines.Engine,
    counted: metrics.Metrics,
    prompt: lm.Prompt,
    wanted: settings.Settings,
    *,
    stops: Sequence[str] = (),
    again: bool = False,
  ):
    """Asks the engine at once, so that a refusal comes before an answer begins.

    Args:
      stops: texts that end a candidate and are left out of it.
      again: see `Engine.submit`.
    """
    self.prompt, self.wanted = prompt, wanted
    self.tokens = 0  # drawn so far
    self._engine, self._metrics = engine, counted
    self._texts = [
      streaming.Stopping(policy, stops) for _ in range(wanted.num_candidates)
    ]
    self._news: asyncio.Queue[pool.Update | None] = asyncio.Queue()
    self._began = time.monotonic()
    loop = asyncio.get_running_loop()

    def listen(news: pool.Update | None) -> None:
      with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(self._news.put_nowait, news)

    self._ticket = engine.submit(prompt, wanted, listen, again=again)

  async def pieces(self) -> AsyncGenerator[Piece, None]:
    """Yields text as it comes; gives the slots back when it is closed.

    Raises:
      Stopped: the engine broke.
    """
    going = set(range(self.wanted.num_candidates))
    try:
      while going:
        news = await self._news.get()
        if news is None:
          raise engines.Stopped("the sampler broke")
        if not self.tokens:
          self._metrics.first_token.observe(time.monotonic() - self._began)
        index = news.job.index
        if index not in going:
          continue  # it drew on past a stop text
        self.tokens += len(news.tokens)
        text = self._texts[index]
        piece = text.add(news.tokens, last=news.finish_reason is not None)
        finish_reason = "stop" if text.stopped else news.finish_reason
        if finish_reason:
          going.discard(index)
        if piece or finish_reason:
          yield Piece(index, piece, finish_reason)
    finally:
      self._engine.cancel(self._ticket)
      self._metrics.tokens.labels("prompt").inc(len(self.prompt.tokens))
      self._metrics.tokens.labels("new").inc(self.tokens)

  async def whole(self) -> list[records.Candidate]:
    """The candidates when all have ended; their `tokens` are all that were drawn."""
    texts = [""] * self.wanted.num_candidates
    reasons = [""] * self.wanted.num_candidates
    async with contextlib.aclosing(self.pieces()) as pieces:
      async for piece in pieces:
        texts[piece.index] += piece.text
        reasons[piece.index] = piece.finish_reason or ""
    return [
      records.Candidate(
        index, text, "stop" if reason == "stop" else "length", self._texts[index].count
      )
      for index, (text, reason) in enumerate(zip(texts, reasons, strict=True))
    ]


async def unless_gone(request: fastapi.Request, work: Awaitable[T]) -> T:
  """Waits for `work` while the client does; it is cancelled when the client hangs up.

  Raises:
    Gone: the client hung up.
  """
  task = asyncio.ensure_future(work)
  gone = asyncio.ensure_future(_hung_up(request))
  try:
    await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
      raise Gone
    return task.result()
  finally:
    for each in (task, gone):
      each.cancel()
    await asyncio.gather(task, gone, return_exceptions=True)


async def _hung_up(request: fastapi.Request) -> None:
  while (await request.receive())["type"] != "http.disconnect":
    pass
