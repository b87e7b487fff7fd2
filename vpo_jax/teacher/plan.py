"""What a stage would cost, before anything is sent."""

import asyncio
from collections.abc import Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax.runtime import console
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import client as client_lib
from vpo_jax.teacher import journal as journal_lib
from vpo_jax.teacher import queue
from vpo_jax.teacher import totals as totals_lib


def plan(
  title: str,
  items: Sequence[ask_lib.Item],
  chain: ask_lib.Chain[ask_lib.Item, ask_lib.Outcome],
  *,
  config: ml_collections.ConfigDict,
  folder: epath.PathLike,
) -> dict[str, Any]:
  """Prints calls, tokens and cost of `queue.answer`, from none to every prompt flawed.

  Replies that the journal holds are not counted. Tokens are estimates (four characters
  each, replies of about 170); no key is needed and nothing is sent or written.
  """
  path = queue.journal_path(config, folder)
  journal = journal_lib.Journal(path) if path.exists() else None
  try:
    least, most = (
      asyncio.run(_count(items, chain, config, journal, flawed))
      for flawed in (False, True)
    )
  finally:
    if journal:
      journal.close()
  told = _told(least)
  if least != most:
    told = f"{told} if no prompt is flawed, {_told(most)} if every one is"
  console.say(
    f"{title}: {len(items):,} rows with {config.model}: {told}; {least.journal_hits:,}"
    " replies are in the journal; nothing was sent"
  )
  return {"dry_run": True, "least": least.counts(), "most": most.counts()}


async def _count(
  items: Sequence[ask_lib.Item],
  chain: ask_lib.Chain[ask_lib.Item, ask_lib.Outcome],
  config: ml_collections.ConfigDict,
  journal: journal_lib.Journal | None,
  flawed: bool,
) -> totals_lib.Totals:
  totals = totals_lib.start(config)
  asked: set[str] = set()

  async def fetch(
    messages: tuple[journal_lib.Message, ...], sample: int
  ) -> journal_lib.Reply:
    request = client_lib.request(config, messages, sample)
    found = journal.get(request.key) if journal else None
    if found:
      totals.journal_hits += 1
      return found
    reply = totals_lib.expected(request, flawed=flawed)
    if request.key not in asked:
      asked.add(request.key)
      totals.add(reply, sent=True)
    return reply

  ask = ask_lib.asking(config, fetch)
  for item in items:
    try:
      await chain(ask, item)
    except ask_lib.NoAnswer:
      continue
  return totals


def _told(totals: totals_lib.Totals) -> str:
  tokens = (totals.prompt_tokens + totals.completion_tokens) / 1e6
  money = "no known price" if totals.cost is None else f"${totals.cost:,.2f}"
  return f"{totals.calls:,} calls, {tokens:.2f}M tokens, {money}"
