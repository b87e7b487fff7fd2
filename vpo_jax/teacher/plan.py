"""Estimates a stage's calls, tokens and cost before anything is sent."""

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
  """Prints and returns the estimated calls, tokens and cost of `queue.answer`.

  The lower estimate assumes that no prompt is flawed, the upper that every prompt is.
  Replies in the journal are not counted. Tokens are estimates (four characters each,
  replies of about 170). No key is needed, and nothing is sent or written.
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
  estimate = _summary(least)
  if least != most:
    estimate += f" if no prompt is flawed, {_summary(most)} if every one is"
  console.say(
    f"{title}: {len(items):,} rows with {config.model}: {estimate};"
    f" {least.journal_hits:,} replies are in the journal; nothing was sent"
  )
  return {"dry_run": True, "least": least.counts(), "most": most.counts()}


async def _count(
  items: Sequence[ask_lib.Item],
  chain: ask_lib.Chain[ask_lib.Item, ask_lib.Outcome],
  config: ml_collections.ConfigDict,
  journal: journal_lib.Journal | None,
  flawed: bool,
) -> totals_lib.Totals:
  """Runs the chains with placeholder replies and counts their requests."""
  totals = totals_lib.start(config)
  requested: set[str] = set()

  async def fetch(
    messages: tuple[journal_lib.Message, ...], sample: int
  ) -> journal_lib.Reply:
    request = client_lib.make_request(config, messages, sample)
    found = journal.get(request.key) if journal else None
    if found:
      totals.journal_hits += 1
      return found
    reply = totals_lib.estimate(request, flawed=flawed)
    if request.key not in requested:
      requested.add(request.key)
      totals.add(reply, sent=True)
    return reply

  ask = ask_lib.make_ask(config, fetch)
  for item in items:
    try:
      await chain(ask, item)
    except ask_lib.NoAnswer:
      continue
  return totals


def _summary(totals: totals_lib.Totals) -> str:
  tokens = (totals.prompt_tokens + totals.completion_tokens) / 1e6
  money = "no known price" if totals.cost is None else f"${totals.cost:,.2f}"
  return f"{totals.calls:,} calls, {tokens:.2f}M tokens, {money}"
