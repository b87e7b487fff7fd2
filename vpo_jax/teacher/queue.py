"""Many rows through the teacher: in parallel, restartable, with a bar.

A row's work is a chain: an async function that asks the model one or more questions
and returns an outcome. Chains keep nothing on disk themselves. A run that was killed
starts its chains again, and they find in the journal what was answered.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors, files, stages
from vpo_jax.runtime import console
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import batch, offline
from vpo_jax.teacher import client as client_lib
from vpo_jax.teacher import journal as journal_lib
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib

# Settings that decide how replies are fetched, not what they are.
_PASSING = (
  "base_url",
  "api_key_env",
  "limit_name",
  "parallel",
  "timeout_s",
  "retries",
  "journal",
  "prices",
  "max_cost",
  "dry_run",
  "batch",
  "poll_s",
)


def lasting(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A stage's config without the teacher's settings that may change between runs.

  Args:
    config: any that holds the teacher's as `teacher`.
  """
  kept = config.copy_and_resolve_references()
  with kept.unlocked():
    kept.teacher.model = resolved(config.teacher).model
    for name in _PASSING:
      del kept.teacher[name]
  return kept


def resolved(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The teacher's config, with what base_url="offline" stands for."""
  config = config.copy_and_resolve_references()
  if config.base_url == offline.BASE_URL:
    config.model, config.api_key_env, config.batch = offline.MODEL, "", False
  return config


def journal_path(
  config: ml_collections.ConfigDict, folder: epath.PathLike
) -> epath.Path:
  """The config's journal, or the one of the stage's folder."""
  return epath.Path(config.journal or epath.Path(folder) / "journal.sqlite")


def check(config: ml_collections.ConfigDict, folder: epath.PathLike) -> None:
  """Looks for the key and the server, before a stage writes its first file.

  A stage that has finished needs no teacher, and is not checked.

  Raises:
    UserError: there is no key, nobody answers, or the key is refused; the offline
      server has no such rules.
  """
  manifest = epath.Path(folder) / stages.MANIFEST
  finished = manifest.exists() and "counts" in files.read_json(manifest)
  if finished:
    return
  if config.base_url == offline.BASE_URL:
    offline.rules(config.offline.rules, config.offline.options)
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
  items: Sequence[ask_lib.Item],
  chain: ask_lib.Chain[ask_lib.Item, ask_lib.Outcome],
  *,
  config: ml_collections.ConfigDict,
  folder: epath.PathLike,
  texts: texts_lib.Texts,
) -> tuple[list[ask_lib.Outcome | ask_lib.NoAnswer], totals_lib.Totals]:
  """Runs the chain of every item.

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
  config = resolved(config)
  run = batch.answer if config.batch else _in_parallel
  with (
    journal_lib.Journal(journal_path(config, folder)) as journal,
    _server(config, texts) as base_url,
  ):
    client = client_lib.Client(config, journal, base_url)
    outcomes = asyncio.run(_closing(client, run(title, items, chain, config, client)))
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
  """`config.parallel` workers, each with one row at a time."""
  outcomes: dict[int, ask_lib.Outcome | ask_lib.NoAnswer] = {}
  waiting = iter(range(len(items)))
  stopped: list[errors.UserError] = []

  async def fetch(
    messages: tuple[journal_lib.Message, ...], sample: int
  ) -> journal_lib.Reply:
    if stopped:
      raise stopped[0]
    return await client.reply(messages, sample)

  async def work(ask: ask_lib.Ask, advance: Callable[[int, str], None]) -> None:
    for index in waiting:
      if stopped:
        return
      try:
        outcomes[index] = await chain(ask, items[index])
      except ask_lib.NoAnswer as error:
        outcomes[index] = error
      except errors.UserError as error:
        # Calls in flight end and are journaled; nothing new is sent.
        stopped.append(error)
        return
      advance(1, client.totals.note())

  await client.reach()
  ask = ask_lib.asking(config, fetch)
  with console.progress(title, len(items)) as advance:
    await asyncio.gather(*[work(ask, advance) for _ in range(config.parallel)])
  if stopped:
    raise stopped[0]
  return [outcomes[index] for index in range(len(items))]


async def _closing(
  client: client_lib.Client,
  work: Coroutine[Any, Any, list[ask_lib.Outcome | ask_lib.NoAnswer]],
) -> list[ask_lib.Outcome | ask_lib.NoAnswer]:
  try:
    return await work
  finally:
    await client.close()


@contextlib.contextmanager
def _server(config: ml_collections.ConfigDict, texts: texts_lib.Texts) -> Iterator[str]:
  if config.base_url != offline.BASE_URL:
    yield config.base_url
  else:
    by = offline.rules(config.offline.rules, config.offline.options)
    with offline.serve(texts, by) as base_url:
      yield base_url
