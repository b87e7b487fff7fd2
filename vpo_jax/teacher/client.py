"""One call to an OpenAI-compatible model: journaled, retried, and failing clearly.

The `openai` library retries what passes by itself: time-outs, dropped connections,
408, 409, 429 (waiting as long as Retry-After says) and 5xx, with backoff and jitter.
Here is what it does not do: replies that are no chat completion are tried again, a key
or model that the server refuses ends the run before the queue starts, and refusals of
content are told from failures.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import math
import os
import random
from collections.abc import AsyncIterator, Iterable

import ml_collections
import openai

from vpo_jax import errors
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import journal as journal_lib
from vpo_jax.teacher import reply as reply_lib
from vpo_jax.teacher import totals as totals_lib

# The HTTP library tells of each request at INFO, which absl prints.
for _name in ("httpx", "httpx2"):
  logging.getLogger(_name).setLevel(logging.WARNING)

LIMITS = ("max_tokens", "max_completion_tokens")
OPENAI = "https://api.openai.com/v1"

# Calls in a row, none answered between them, after which the server counts as down.
_OUTAGE = 10
# The library's own first and longest backoff, in seconds.
_BACKOFF, _LONGEST = 0.5, 8.0
# The longest Retry-After that the library waits for, in seconds.
_PATIENCE = 120
# What OpenAI answers with 400 where a model does not know a parameter or its value.
_UNSUPPORTED = ("unsupported_parameter", "unsupported_value")
# Calls at once for one pool of connections. A pool looks at each of its connections
# for every call, so that one pool of 200 takes twice the time of ten of 20.
_POOL = 20


class Client:
  """Calls one model of one server.

  Attributes:
    api: the library's own client.
    base_url: where it calls.
    totals: what has been asked so far.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    journal: journal_lib.Journal | None,
    base_url: str,
  ):
    """Reads the key from the environment; nothing is sent yet.

    Args:
      config: the teacher's config (configs/teacher.py).
      journal: where replies are kept; None for a client that only looks (`reach`).
      base_url: where to call; config.base_url unless that starts a server here.

    Raises:
      UserError: a setting is wrong, or the environment variable that should hold the
        key is not set.
    """
    for name in ("parallel", "samples"):
      if config[name] < 1:
        raise errors.UserError(
          f"config.teacher.{name}={config[name]}: must be 1 or more"
        )
    if config.limit_name not in LIMITS:
      raise errors.UserError(
        f"config.teacher.limit_name={config.limit_name!r}: must be"
        f" {' or '.join(LIMITS)}"
      )
    self.totals = totals_lib.start(config)
    self._config = config
    self._journal = journal
    self.base_url = base_url or OPENAI
    self._key = _key(config, self.base_url)
    self._apis = [
      openai.AsyncOpenAI(
        base_url=self.base_url,
        api_key=self._key,
        timeout=config.timeout_s,
        max_retries=config.retries,
      )
      for _ in range(math.ceil(config.parallel / _POOL))
    ]
    self.api = self._apis[0]
    self._next = itertools.cycle(self._apis)
    self._flying: dict[str, asyncio.Future[journal_lib.Reply]] = {}
    self._door = asyncio.Lock()
    self._proved = False
    self._failures = 0
    self._fatal: errors.UserError | None = None

  async def close(self) -> None:
    await asyncio.gather(*[api.close() for api in self._apis])

  @property
  def journal(self) -> journal_lib.Journal:
    assert self._journal is not None
    return self._journal

  @contextlib.asynccontextmanager
  async def failing(self, what: str) -> AsyncIterator[None]:
    """Turns what goes wrong in other calls of `api` into one line."""
    try:
      yield
    except openai.APIStatusError as error:
      if error.status_code != 404:  # what is not there is no model here
        with contextlib.suppress(ask_lib.NoAnswer):
          self._status(error)
      raise errors.UserError(
        f"teacher at {self.base_url} does not {what}: {self._told(error)}"
      ) from error
    except openai.APIError as error:
      raise errors.UserError(
        f"teacher at {self.base_url} does not {what}:"
        f" {self._clean(error.__cause__ or error)}; run the same command to go on"
      ) from error

  async def reach(self) -> None:
    """Asks for the list of models, which costs nothing.

    Raises:
      UserError: nobody answers at the address, or the key is refused.
    """
    try:
      await self.api.with_options(max_retries=0).get("/models", cast_to=object)
    except openai.AuthenticationError as error:
      self._status(error)
    except openai.APIConnectionError as error:
      # The class is named, not imported: it is httpx's or httpx2's.
      if type(error.__cause__).__name__ == "ConnectError":
        raise errors.UserError(
          f"teacher at {self.base_url} cannot be reached"
          f" ({self._clean(error.__cause__)}); check config.teacher.base_url"
        ) from error
    except (openai.APIError, json.JSONDecodeError):
      pass  # Not every server lists its models, or lets every key list them.

  async def reply(
    self, messages: tuple[journal_lib.Message, ...], sample: int = 0
  ) -> journal_lib.Reply:
    """The reply to a request, from the journal where it is there.

    Args:
      sample: which draw of this request; it is added to the seed that is sent.

    Raises:
      NoAnswer: the server refuses this request, or failed every try.
      UserError: no request can succeed (key, model, quota, address, outage).
    """
    asked = request(self._config, messages, sample)
    # Two rows may ask the same; the second waits for the first one's reply.
    while flying := self._flying.get(asked.key):
      await asyncio.wait([flying])
    found = self.journal.get(asked.key)
    if found:
      self.totals.add(found, sent=False)
      return found
    task = asyncio.ensure_future(self._through_the_door(asked))
    self._flying[asked.key] = task
    try:
      found = self.journal.put(asked.key, await task)
    finally:
      del self._flying[asked.key]
    self.totals.add(found, sent=True)
    return found

  async def _through_the_door(self, request: journal_lib.Request) -> journal_lib.Reply:
    # Until one call has been answered, calls go one by one: a wrong key or model costs
    # one request and not a queue of them.
    if self._proved:
      return await self._counted(request)
    async with self._door:
      if not self._proved:
        return await self._counted(request)
    return await self._counted(request)

  async def _counted(self, request: journal_lib.Request) -> journal_lib.Reply:
    if self._fatal:
      raise self._fatal
    try:
      self.check_cost()
      reply = await self._send(request)
    except errors.UserError as error:
      self._fatal = error
      raise
    except ask_lib.NoAnswer as error:
      self._failures += 1
      if self._failures < _OUTAGE:
        raise
      self._fatal = errors.UserError(
        f"teacher at {self.base_url}: {_OUTAGE} calls in a row got no answer, the"
        f" last {error}; every reply so far is kept, run the same command to go on"
      )
      raise self._fatal from error
    self._proved = True
    self._failures = 0
    return reply

  def check_cost(self, expected: Iterable[journal_lib.Request] = ()) -> None:
    """Raises UserError when the limit on cost is reached, or would be by `expected`."""
    cost, limit = self.totals.cost, self._config.max_cost
    if not limit or cost is None:
      return
    more = dataclasses.replace(self.totals)
    for asked in expected:
      more.add(totals_lib.expected(asked), sent=True)
    if max(cost, more.cost or 0) >= limit:
      would = f", the next requests would make it ${more.cost:,.2f}" if expected else ""
      raise errors.UserError(
        f"stopped at ${cost:,.2f}{would}: config.teacher.max_cost={limit:g}; every"
        " reply so far is kept, raise it and run the same command to go on"
      )

  async def _send(self, request: journal_lib.Request) -> journal_lib.Reply:
    failure = ""
    for attempt in range(self._config.retries + 1):
      try:
        # `chat.completions.create` sends the same, and spends a third of the client's
        # time on turning checked types into JSON and back.
        body = await next(self._next).post(
          "/chat/completions", body=request.body, cast_to=object
        )
        return reply_lib.read(body)
      except (
        reply_lib.Garbled,
        openai.APIResponseValidationError,
        json.JSONDecodeError,
      ) as e:
        failure = f"the reply is no chat completion ({reply_lib.line(e)})"
        backoff = min(_BACKOFF * 2**attempt, _LONGEST)
        await asyncio.sleep(backoff * random.uniform(0.75, 1))
      except openai.APIStatusError as error:
        return self._status(error)
      except openai.APITimeoutError as error:
        failure = f"no answer within {self._config.timeout_s:g} s"
        raise ask_lib.NoAnswer("failed", failure) from error
      except openai.APIConnectionError as error:
        failure = f"the connection broke ({self._clean(error.__cause__ or error)})"
        raise ask_lib.NoAnswer("failed", failure) from error
    raise ask_lib.NoAnswer("failed", failure)

  def _status(self, error: openai.APIStatusError) -> journal_lib.Reply:
    """A refusal of content as a reply; what else the server refuses is raised."""
    teacher, says = f"teacher at {self.base_url}", self._told(error)
    if error.status_code in (401, 403):
      key = f"${self._config.api_key_env}" if self._config.api_key_env else "no key"
      raise errors.UserError(
        f"{teacher} refuses the key ({error.status_code}); it was sent {key}, see"
        " config.teacher.api_key_env"
      ) from error
    if error.status_code == 404:
      raise errors.UserError(
        f"{teacher} does not know model {self._config.model!r} or that address (404:"
        f" {says}); check config.teacher.model and config.teacher.base_url"
      ) from error
    if error.code == "insufficient_quota":
      raise errors.UserError(f"{teacher}: the quota is used up ({says})") from error
    wait = error.response.headers.get("retry-after", "")
    if error.status_code == 429 and wait.isdigit() and int(wait) > _PATIENCE:
      raise errors.UserError(
        f"{teacher} asks to wait {wait} s ({says}); every reply so far is kept, run the"
        " same command to go on"
      ) from error
    if error.code in _UNSUPPORTED:
      raise errors.UserError(
        f"{teacher}: model {self._config.model!r} does not take what it is sent"
        f" ({says}); see limit_name, max_tokens and temperature of config.teacher"
      ) from error
    with contextlib.suppress(reply_lib.Garbled):
      return reply_lib.filtered({"code": error.code, "message": says})
    raise ask_lib.NoAnswer("failed", f"{error.status_code}: {says}") from error

  def _told(self, error: openai.APIStatusError) -> str:
    told = error.body.get("message") if isinstance(error.body, dict) else None
    return self._clean(told or error.message)

  def _clean(self, error: object) -> str:
    """An error on one line, without the key that a server may repeat."""
    return reply_lib.line(error).replace(self._key, "(key)")


def request(
  config: ml_collections.ConfigDict,
  messages: tuple[journal_lib.Message, ...],
  sample: int,
) -> journal_lib.Request:
  """What is sent for one draw of a reply."""
  parameters = {
    "temperature": config.temperature,
    config.limit_name: config.max_tokens,
    "seed": config.seed + sample,
  }
  return journal_lib.Request(config.model, messages, parameters, sample)


def _key(config: ml_collections.ConfigDict, base_url: str) -> str:
  if not config.api_key_env:
    return "none"
  key = os.environ.get(config.api_key_env, "").strip()
  if not key:
    raise errors.UserError(
      f"teacher at {base_url}: the environment variable {config.api_key_env} holds no"
      " key; set it, or set config.teacher.api_key_env to '' for a server without keys"
    )
  return key
