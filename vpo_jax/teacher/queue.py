"""Many rows through the teacher: in parallel, restartable, with a bar.

A row's work is a chain: an async function that asks the model one or more questions
and returns an outcome. Chains keep nothing on disk themselves. A run that was killed
starts its chains again, and they find in the journal what was answered.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import ml_collections
from etils import epath

from vpo_jax import console, errors
from vpo_jax.teacher import client as client_lib
from vpo_jax.teacher import journal as journal_lib
from vpo_jax.teacher import offline
from vpo_jax.teacher import texts as texts_lib

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Value = TypeVar("Value")

# A refusal in words, of a model that has no field for it. Only looked for in replies
# that lack their marker.
_REFUSAL = re.compile(
  r"\W*(i['’]m |i am )?(very |so )?sorry\b|\W*i (can(no|['’])t|can not|won['’]t|am"
  r" unable to|am not able to) (assist|help|comply|create|fulfil|provide|generate)",
  re.IGNORECASE,
)


class Ask(Protocol):
  """Asks until `read` finds what it needs in a reply.

  Returns: what `read` found, and the reply's text.
  Raises: client.NoAnswer when the row has to be set aside.
  """

  async def __call__(
    self,
    messages: Sequence[journal_lib.Message],
    read: Callable[[str], Value | None],
  ) -> tuple[Value, str]: ...


# Settings that decide how replies are fetched, not what they are.
_PASSING = ("base_url", "api_key_env", "parallel", "timeout_s", "retries", "journal")


def lasting(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A stage's config without the teacher's settings that may change between runs."""
  kept = config.copy_and_resolve_references()
  with kept.unlocked():
    kept.teacher.model = _model(config.teacher)
    for name in _PASSING:
      del kept.teacher[name]
  return kept


def _model(config: ml_collections.ConfigDict) -> str:
  return offline.MODEL if config.base_url == offline.BASE_URL else config.model


def check(config: ml_collections.ConfigDict, folder: epath.PathLike) -> None:
  """Looks for the key and the server, before a stage writes its first file.

  A stage that has begun is not checked: one that has finished needs no teacher.

  Raises:
    UserError: there is no key, nobody answers, or the key is refused.
  """
  if config.base_url == offline.BASE_URL or epath.Path(folder).exists():
    return

  async def reach() -> None:
    client = client_lib.Client(config, None, config.base_url)
    try:
      await client.reach()
    finally:
      await client.close()

  asyncio.run(reach())


def answer(
  title: str,
  items: Sequence[Item],
  chain: Callable[[Ask, Item], Awaitable[Outcome]],
  *,
  config: ml_collections.ConfigDict,
  folder: epath.PathLike,
  texts: texts_lib.Texts,
) -> tuple[list[Outcome | client_lib.NoAnswer], client_lib.Totals]:
  """Runs the chain of every item, `config.parallel` at a time.

  Args:
    title: what the progress bar is called.
    chain: asks about one item; what it raises as `NoAnswer` becomes its outcome.
    config: the teacher's config (configs/teacher.py).
    folder: where the journal is, unless the config names another.
    texts: the templates that the chains fill; the offline teacher reads by them.

  Returns: the outcomes, in the order of the items, and what was asked.

  Raises:
    UserError: the teacher cannot be used, or answered no row at all.
  """
  config = config.copy_and_resolve_references()
  config.model = _model(config)
  path = config.journal or epath.Path(folder) / "journal.sqlite"
  with journal_lib.Journal(path) as journal, _server(config, texts) as base_url:
    outcomes, totals = asyncio.run(
      _answer(title, items, chain, config, journal, base_url)
    )
  failed = [o for o in outcomes if isinstance(o, client_lib.NoAnswer)]
  if failed and len(failed) == len(outcomes):
    raise errors.UserError(
      f"{title}: the teacher at {config.base_url} gave no usable answer to any of"
      f" {len(failed)} rows; the first: {failed[0]}"
    )
  return outcomes, totals


@contextlib.contextmanager
def _server(config: ml_collections.ConfigDict, texts: texts_lib.Texts) -> Iterator[str]:
  if config.base_url != offline.BASE_URL:
    yield config.base_url
  else:
    config.api_key_env = ""
    with offline.serve(texts) as base_url:
      yield base_url


async def _answer(
  title: str,
  items: Sequence[Item],
  chain: Callable[[Ask, Item], Awaitable[Outcome]],
  config: ml_collections.ConfigDict,
  journal: journal_lib.Journal,
  base_url: str,
) -> tuple[list[Outcome | client_lib.NoAnswer], client_lib.Totals]:
  client = client_lib.Client(config, journal, base_url)
  outcomes: dict[int, Outcome | client_lib.NoAnswer] = {}
  waiting = iter(range(len(items)))
  stopped: list[errors.UserError] = []

  async def ask(
    messages: Sequence[journal_lib.Message], read: Callable[[str], Value | None]
  ) -> tuple[Value, str]:
    for sample in range(config.samples):
      if stopped:
        raise stopped[0]
      reply = await client.reply(tuple(messages), sample)
      value = read(reply.text) if reply.finish_reason != "length" else None
      if reply.refusal or (value is None and _REFUSAL.match(reply.text)):
        raise client_lib.NoAnswer("refused", " ".join(reply.text.split())[:200])
      if value is not None:
        return value, reply.text
    raise client_lib.NoAnswer(
      "unparsed", f"{config.samples} replies lack the marker that the template asks for"
    )

  async def work(advance: Callable[[int, str], None]) -> None:
    for index in waiting:
      if stopped:
        return
      try:
        outcomes[index] = await chain(ask, items[index])
      except client_lib.NoAnswer as error:
        outcomes[index] = error
      except errors.UserError as error:
        # Calls in flight end and are journaled; nothing new is sent.
        stopped.append(error)
        return
      advance(1, note(client.totals))

  try:
    await client.reach()
    with console.progress(title, len(items)) as advance:
      await asyncio.gather(*[work(advance) for _ in range(config.parallel)])
  finally:
    await client.close()
  if stopped:
    raise stopped[0]
  return [outcomes[index] for index in range(len(items))], client.totals


def note(totals: client_lib.Totals) -> str:
  """What has been asked, for the progress bar."""
  tokens = totals.prompt_tokens + totals.completion_tokens
  return f"{totals.calls:,} calls, {tokens / 1e6:.2f}M tokens"


def counts(totals: client_lib.Totals) -> dict[str, int]:
  """What has been asked, for a stage's manifest."""
  return {
    "calls": totals.calls,
    "journal_hits": totals.journal_hits,
    "prompt_tokens": totals.prompt_tokens,
    "completion_tokens": totals.completion_tokens,
  }
