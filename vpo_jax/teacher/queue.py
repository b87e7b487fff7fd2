"""Runs many rows through the teacher, in parallel and with a progress bar.

A row's work is a chain: an async function that asks the model one or more questions and
returns an outcome. Chains store nothing themselves. A run that continues starts its
chains again, and they get the earlier replies from the journal.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors
from vpo_jax.runtime import console
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import batch, server
from vpo_jax.teacher import client as client_lib
from vpo_jax.teacher import journal as journal_lib
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib

# Keys of a stage's config that affect how replies are fetched, but not what they are.
# They may change when a stage continues.
EXECUTION_KEYS: tuple[str, ...] = (
  "teacher.base_url",
  "teacher.api_key_env",
  "teacher.limit_name",
  "teacher.parallel",
  "teacher.timeout_s",
  "teacher.retries",
  "teacher.journal",
  "teacher.prices",
  "teacher.max_cost",
  "teacher.dry_run",
  "teacher.batch",
  "teacher.poll_s",
)


def journal_path(
  config: ml_collections.ConfigDict, folder: epath.PathLike
) -> epath.Path:
  """Returns the config's journal, or the one in the stage's folder."""
  return epath.Path(config.journal or epath.Path(folder) / "journal.sqlite")


def check(config: ml_collections.ConfigDict) -> None:
  """Checks the settings, the key and the server, before a stage writes its first file.

  The server of `config.server` is not started.

  Raises:
    UserError: a setting is invalid, there is no key, the server does not answer, or it
      rejects the key.
  """
  server.serve(config, texts_lib.Texts())  # not entered: checks the options only

  async def reach() -> None:
    client = client_lib.Client(config, None, config.base_url)
    try:
      if not config.server:
        await client.reach()
    finally:
      await client.close()

  asyncio.run(reach())


def answer(
  title: str,
  items: Sequence[ask_lib.Item],
  chain: ask_lib.Chain[ask_lib.Item, ask_lib.Outcome],
  *,
  config: ml_collections.ConfigDict,
  folder: epath.PathLike,
  texts: texts_lib.Texts,
) -> tuple[list[ask_lib.Outcome | ask_lib.NoAnswer], totals_lib.Totals]:
  """Runs the chain of every item.

  Args:
    title: name of the progress bar.
    chain: asks about one item; a `NoAnswer` that it raises becomes its outcome.
    config: the teacher's config (configs/teacher.py).
    folder: contains the journal, unless the config names another.
    texts: the templates that the chains fill; passed to `config.server`.

  Returns: the outcomes, in the order of the items, and the totals of the run.

  Raises:
    UserError: the teacher cannot be used, or no row got an answer.
  """
  run = batch.answer if config.batch else _in_parallel
  with (
    journal_lib.Journal(journal_path(config, folder)) as journal,
    server.serve(config, texts) as base_url,
  ):
    client = client_lib.Client(config, journal, base_url)
    work = run(title, items, chain, config, client)
    outcomes = asyncio.run(_run_and_close(work, client))
  failed = [o for o in outcomes if isinstance(o, ask_lib.NoAnswer)]
  if failed and len(failed) == len(outcomes):
    raise errors.UserError(
      f"{title}: the teacher at {client.base_url} gave no usable answer to any of"
      f" {len(failed)} rows; the first: {failed[0]}"
    )
  return outcomes, client.totals


async def _in_parallel(
  title: str,
  items: Sequence[ask_lib.Item],
  chain: ask_lib.Chain[ask_lib.Item, ask_lib.Outcome],
  config: ml_collections.ConfigDict,
  client: client_lib.Client,
) -> list[ask_lib.Outcome | ask_lib.NoAnswer]:
  """Runs `config.parallel` workers that take one row at a time."""
  outcomes: dict[int, ask_lib.Outcome | ask_lib.NoAnswer] = {}
  remaining = iter(range(len(items)))
  stopped: list[errors.UserError] = []

  async def fetch(
    messages: tuple[journal_lib.Message, ...], sample: int
  ) -> journal_lib.Reply:
    if stopped:
      raise stopped[0]
    return await client.reply(messages, sample)

  async def work(ask: ask_lib.Ask, advance: Callable[[int, str], None]) -> None:
    for index in remaining:
      if stopped:
        return
      try:
        outcomes[index] = await chain(ask, items[index])
      except ask_lib.NoAnswer as error:
        outcomes[index] = error
      except errors.UserError as error:
        # Calls in flight complete and are journaled; no new call is sent.
        stopped.append(error)
        return
      advance(1, client.totals.note())

  await client.reach()
  ask = ask_lib.make_ask(config, fetch)
  with console.progress(title, len(items)) as advance:
    await asyncio.gather(*[work(ask, advance) for _ in range(config.parallel)])
  if stopped:
    raise stopped[0]
  return [outcomes[index] for index in range(len(items))]


async def _run_and_close(
  work: Coroutine[Any, Any, list[ask_lib.Outcome | ask_lib.NoAnswer]],
  client: client_lib.Client,
) -> list[ask_lib.Outcome | ask_lib.NoAnswer]:
  try:
    return await work
  finally:
    await client.close()
