"""OpenAI's Batch API: the same rows at half the price, within a day.

All chains run against the journal. Requests without a journaled reply are sent as
batches, and the run waits for them. Then the chains run again, up to their next
question, until no chain makes a new request. The journal records each batch, and each
batch carries the journal's id as metadata, so a killed run finds its batches again,
running or completed, and pays for nothing twice.
"""

import asyncio
import collections
import json
from collections.abc import Sequence
from typing import Any

import ml_collections

from torch_bridge import api_errors
from vpo_jax import errors
from vpo_jax.runtime import console
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import client as client_lib
from vpo_jax.teacher import journal as journal_lib

# OpenAI's limits are 50,000 requests and 200 MB a batch.
_REQUESTS, _BYTES = 50_000, 190_000_000
_ENDPOINT = "/v1/chat/completions"
_METADATA = "vpo_journal"
_RUNNING = ("validating", "in_progress", "finalizing", "cancelling")


class _Pending(Exception):
  """The chain needs a reply that is not in the journal yet."""


async def answer(
  title: str,
  items: Sequence[ask_lib.Item],
  chain: ask_lib.Chain[ask_lib.Item, ask_lib.Outcome],
  config: ml_collections.ConfigDict,
  client: client_lib.Client,
) -> list[ask_lib.Outcome | ask_lib.NoAnswer]:
  """Returns the outcome of every item's chain, with requests sent as batches.

  Raises:
    UserError: the server rejects the key or the batch, has no Batch API, or the cost
      limit is reached.
  """
  await client.reach()
  batches = _Batches(config, client)
  await batches.find_unrecorded()
  with console.progress(title, len(items)) as advance:
    done = 0
    while True:
      await batches.collect()
      outcomes, pending = await _replay(items, chain, config, client, batches.failed)
      advance(len(outcomes) - done, client.totals.note())
      done = len(outcomes)
      if not pending:
        return [outcomes[index] for index in range(len(items))]
      await batches.send(pending)


async def _replay(
  items: Sequence[ask_lib.Item],
  chain: ask_lib.Chain[ask_lib.Item, ask_lib.Outcome],
  config: ml_collections.ConfigDict,
  client: client_lib.Client,
  failed: dict[str, str],
) -> tuple[
  dict[int, ask_lib.Outcome | ask_lib.NoAnswer], dict[str, journal_lib.Request]
]:
  """Runs every chain on journaled replies.

  Args:
    failed: reasons by the key of a request, for requests that will not be sent again.

  Returns: the outcomes of chains that completed, by the item's index, and the requests
    that the other chains wait for, by key.
  """
  pending: dict[str, journal_lib.Request] = {}
  used: dict[str, journal_lib.Reply] = {}

  async def fetch(
    messages: tuple[journal_lib.Message, ...], sample: int
  ) -> journal_lib.Reply:
    request = client_lib.make_request(config, messages, sample)
    reply = client.journal.get(request.key)
    if reply:
      used[request.key] = reply
      return reply
    if request.key in failed:
      raise ask_lib.NoAnswer("failed", failed[request.key])
    pending[request.key] = request
    raise _Pending

  ask = ask_lib.make_ask(config, fetch)
  outcomes = {}
  for index, item in enumerate(items):
    try:
      outcomes[index] = await chain(ask, item)
    except ask_lib.NoAnswer as error:
      outcomes[index] = error
    except _Pending:
      continue
  client.totals.recount(used.values())
  return outcomes, pending


class _Batches:
  """The batches of one journal.

  Attributes:
    failed: reasons by the key of a request, for requests that will not be sent again.
  """

  def __init__(self, config: ml_collections.ConfigDict, client: client_lib.Client):
    self.failed: dict[str, str] = {}
    self._config = config
    self._client = client
    self._journal = client.journal
    self._attempts: collections.Counter[str] = collections.Counter()
    self._reasons: dict[str, str] = {}
    self._permanent: Exception | None = None

  async def find_unrecorded(self) -> None:
    """Records batches that a run sent but did not record before it was killed."""
    recorded = self._journal.batches()
    async with self._client.one_line_errors("list batches"):
      async for batch in self._client.api.batches.list(limit=100):
        journal_id = (batch.metadata or {}).get(_METADATA)
        if journal_id == self._journal.id and batch.id not in recorded:
          self._journal.put_batch(batch.id, collected=False)

  async def send(self, pending: dict[str, journal_lib.Request]) -> None:
    """Uploads requests and starts their batches.

    A request that already got no reply in `config.retries` + 1 batches is given up.
    """
    self._client.check_cost(planned=pending.values())
    lines: list[bytes] = []
    size = 0
    for key, request in pending.items():
      self._attempts[key] += 1
      if self._attempts[key] > self._config.retries + 1:
        self.failed[key] = self._reasons.get(key, "its batches returned no reply")
        continue
      line = {
        "custom_id": key,
        "method": "POST",
        "url": _ENDPOINT,
        "body": request.body,
      }
      encoded = json.dumps(line).encode() + b"\n"
      if len(lines) == _REQUESTS or size + len(encoded) > _BYTES:
        await self._start(lines)
        lines, size = [], 0
      lines.append(encoded)
      size += len(encoded)
    if lines:
      await self._start(lines)

  async def _start(self, lines: Sequence[bytes]) -> None:
    async with self._client.one_line_errors("start a batch"):
      file = await self._client.api.files.create(
        file=("requests.jsonl", b"".join(lines)), purpose="batch"
      )
      batch = await self._client.api.batches.create(
        input_file_id=file.id,
        endpoint=_ENDPOINT,
        completion_window="24h",
        metadata={_METADATA: self._journal.id},
      )
    self._journal.put_batch(batch.id, collected=False)
    console.say(f"batch {batch.id}: {len(lines):,} requests sent")

  async def collect(self) -> None:
    """Waits for every batch that was not collected yet, and journals its replies."""
    for name, collected in self._journal.batches().items():
      if not collected:
        await self._collect(name)
        self._journal.put_batch(name, collected=True)

  async def _collect(self, name: str) -> None:
    async with self._client.one_line_errors(f"read batch {name}"):
      batch = await self._client.api.batches.retrieve(name)
      while batch.status in _RUNNING:
        await asyncio.sleep(self._config.poll_s)
        batch = await self._client.api.batches.retrieve(name)
      names = filter(None, (batch.output_file_id, batch.error_file_id))
      files = [
        (file, (await self._client.api.files.content(file)).content) for file in names
      ]
    unread = [line for file, content in files for line in self._read(file, content)]
    if unread or self._permanent:
      # Missing replies are requested again, instead of reading the same lines again.
      self._journal.put_batch(name, collected=True)
    if unread:
      raise errors.UserError(
        f"batch {name}: {unread[0]}; its other lines are in the journal"
        f" ({len(unread)} unreadable), run the same command to request the rest again"
      )
    if self._permanent:
      raise self._permanent
    if batch.status == "failed":
      reasons = (batch.errors.data if batch.errors else None) or []
      message = "; ".join(str(reason.message) for reason in reasons)
      self._journal.put_batch(name, collected=True)
      raise errors.UserError(
        f"batch {name} failed: {self._client.one_line(message) or '?'}"
      )
    if batch.status != "completed":
      console.say(f"batch {name} {batch.status}; missing replies are requested again")

  def _read(self, file: str, content: bytes) -> list[str]:
    """Journals the lines of a file; returns why some could not be read."""
    unread = []
    # Lines end at "\n" only; `splitlines` would cut at the U+2028 in a reply.
    for number, line in enumerate(content.split(b"\n"), start=1):
      if not line.strip():
        continue
      try:
        row = json.loads(line)
      except (ValueError, RecursionError) as error:
        unread.append(f"{file}:{number}: not JSON: {self._client.one_line(error)}")
        continue
      if isinstance(row, dict) and isinstance(row.get("custom_id"), str):
        self._record(row)
      else:
        unread.append(f"{file}:{number}: has no custom_id")
    return unread

  def _record(self, line: dict[str, Any]) -> None:
    """Journals one line of a batch's output, or records why it has no reply."""
    key, response = line["custom_id"], line.get("response")
    if not isinstance(response, dict):
      response = {}
    body, status = response.get("body"), response.get("status_code")
    if not body:
      body, status = line.get("error"), 0
    try:
      reply = self._client.read(body, status if isinstance(status, int) else 200)
    except api_errors.ServerError as failed:
      self._reasons[key] = failed.error.message
      if failed.error.permanent:
        self._permanent = self._permanent or self._client.exception(failed.error)
      elif failed.error.kind is api_errors.Kind.REJECTED:
        self.failed[key] = self._reasons[key]
    else:
      self._client.totals.calls += self._journal.get(key) is None
      self._journal.put(key, reply)
