"""Calls an OpenAI-compatible model: journaled, retried, with one-line errors.

Temporary failures are retried with backoff and jitter, or after the time that the
server asks for. The `openai` library could do this, but it decides by the status alone:
it would send a request again that a content filter refused with status 500, or that an
empty account cannot pay (429), and it returns a 200 whose body is an error. So its
retries are off for completions (they stay on for the Batch API), and `reply` says what
a response is.
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
import urllib.parse
from collections.abc import AsyncIterator, Iterable

import ml_collections
from etils import epy

from torch_bridge import api_errors
from vpo_jax import errors
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import journal as journal_lib
from vpo_jax.teacher import reply as reply_lib
from vpo_jax.teacher import status as status_lib
from vpo_jax.teacher import totals as totals_lib

with epy.lazy_imports():  # slow to import, and not always used
  import openai

# The HTTP library logs every request at INFO, which absl prints.
for _name in ("httpx", "httpx2"):
  logging.getLogger(_name).setLevel(logging.WARNING)

LIMITS = ("max_tokens", "max_completion_tokens")
OPENAI = "https://api.openai.com/v1"

# After this many failed calls in a row the server counts as down.
MAX_FAILURES = 10
# The first and longest backoff, in seconds; as the openai library's.
_BACKOFF, _LONGEST = 0.5, 8.0
# Concurrent calls per connection pool. A pool scans all of its connections for every
# call, so one pool of 200 takes twice the time of ten pools of 20.
_POOL = 20


class Client:
  """Calls one model on one server.

  Attributes:
    api: the openai library's client.
    base_url: the server's address, without a name and password in it.
    totals: calls, tokens and cost so far.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    journal: journal_lib.Journal | None,
    base_url: str,
  ):
    """Checks the settings and reads the key from the environment; sends nothing.

    Args:
      config: the teacher's config (configs/teacher.py).
      journal: stores the replies; None if only `reach` will be called.
      base_url: the server's address; "" is OpenAI's.

    Raises:
      UserError: a setting is invalid, or the environment variable for the key is empty.
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
    self.base_url = _without_password(base_url or OPENAI)
    self._key = _key(config, self.base_url)
    self._apis = [
      openai.AsyncOpenAI(
        base_url=base_url or OPENAI,
        api_key=self._key,
        timeout=config.timeout_s,
        max_retries=config.retries,
      )
      for _ in range(math.ceil(config.parallel / _POOL))
    ]
    self.api = self._apis[0]
    self._next_api = itertools.cycle(self._apis)
    self._in_flight: dict[str, asyncio.Future[journal_lib.Reply]] = {}
    self._first_call = asyncio.Lock()
    self._server_works = False
    self._failures = 0
    self._fatal: errors.UserError | None = None

  async def close(self) -> None:
    await asyncio.gather(*[api.close() for api in self._apis])

  @property
  def journal(self) -> journal_lib.Journal:
    assert self._journal is not None
    return self._journal

  @contextlib.asynccontextmanager
  async def one_line_errors(self, action: str) -> AsyncIterator[None]:
    """Turns errors of other calls of `api` into UserErrors.

    Args:
      action: what the calls do, as in "the server does not {action}".
    """
    try:
      yield
    except openai.APIStatusError as error:
      failed = self._error(error)
      if failed.kind in (api_errors.Kind.KEY, api_errors.Kind.BILLING):
        raise self.exception(failed) from error
      raise errors.UserError(
        f"teacher at {self.base_url} does not {action}: {failed.message}"
      ) from error
    except openai.APIError as error:
      raise errors.UserError(
        f"teacher at {self.base_url} does not {action}:"
        f" {self.one_line(error.__cause__ or error)}; run the same command to continue"
      ) from error

  async def reach(self) -> None:
    """Requests the list of models, which costs nothing.

    Raises:
      UserError: nothing listens at the address, or the key is rejected.
    """
    try:
      await self.api.with_options(max_retries=0).get("/models", cast_to=object)
    except openai.AuthenticationError as error:
      raise self.exception(self._error(error)) from error
    except openai.APIConnectionError as error:
      # Compared by name because the class is httpx's or httpx2's.
      if type(error.__cause__).__name__ == "ConnectError":
        raise errors.UserError(
          f"teacher at {self.base_url} cannot be reached"
          f" ({self.one_line(error.__cause__)}); check config.teacher.base_url"
        ) from error
    except (openai.APIError, json.JSONDecodeError):
      pass  # Not every server lists its models, or lets every key list them.

  async def reply(
    self, messages: tuple[journal_lib.Message, ...], sample: int = 0
  ) -> journal_lib.Reply:
    """Returns the reply to a request, from the journal if it is there.

    Args:
      sample: index of this draw; it is added to the seed that is sent.

    Raises:
      NoAnswer: the server rejected this request, or every attempt failed.
      UserError: no request can succeed (key, model, quota, address, outage).
    """
    request = make_request(self._config, messages, sample)
    # Two rows may make the same request; the second waits for the first one's reply.
    while in_flight := self._in_flight.get(request.key):
      await asyncio.wait([in_flight])
    reply = self.journal.get(request.key)
    if reply:
      self.totals.add(reply, sent=False)
      return reply
    task = asyncio.ensure_future(self._call(request))
    self._in_flight[request.key] = task
    try:
      reply = self.journal.put(request.key, await task)
    finally:
      del self._in_flight[request.key]
    self.totals.add(reply, sent=True)
    return reply

  async def _call(self, request: journal_lib.Request) -> journal_lib.Reply:
    # Calls are sequential until one is answered, so that a wrong key or model costs one
    # request and not a queue of them.
    if not self._server_works:
      async with self._first_call:
        if not self._server_works:
          return await self._call_or_stop(request)
    return await self._call_or_stop(request)

  async def _call_or_stop(self, request: journal_lib.Request) -> journal_lib.Reply:
    """Sends the request, unless an earlier error stopped the run."""
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
      if self._failures < MAX_FAILURES:
        raise
      self._fatal = errors.UserError(
        f"teacher at {self.base_url}: {MAX_FAILURES} calls in a row got no answer, the"
        f" last {error}; all replies so far are in the journal, run the same command to"
        " continue"
      )
      raise self._fatal from error
    self._server_works = True
    self._failures = 0
    return reply

  def check_cost(self, planned: Iterable[journal_lib.Request] = ()) -> None:
    """Raises UserError if the cost limit is reached, or `planned` would reach it."""
    cost, limit = self.totals.cost, self._config.max_cost
    if not limit or cost is None:
      return
    estimate = dataclasses.replace(self.totals)
    for request in planned:
      estimate.add(totals_lib.estimate(request), sent=True)
    if max(cost, estimate.cost or 0) >= limit:
      more = ""
      if planned:
        more = f", the next requests would make it ${estimate.cost:,.2f}"
      raise errors.UserError(
        f"stopped at ${cost:,.2f}{more}: config.teacher.max_cost={limit:g}; all replies"
        " so far are in the journal, raise the limit and run the same command"
      )

  async def _send(self, request: journal_lib.Request) -> journal_lib.Reply:
    """Sends a request until it is answered; a refusal is an answer."""
    attempt = 0
    while True:
      try:
        return await self._send_once(request)
      except api_errors.ServerError as failed:
        error = failed.error
        last = attempt >= self._config.retries
        busy = error.kind is api_errors.Kind.BUSY
        if last or not busy or error.wait_s > api_errors.LONGEST_WAIT_S:
          raise self.exception(error) from failed
        backoff = min(_BACKOFF * 2**attempt, _LONGEST) * random.uniform(0.75, 1)
        await asyncio.sleep(error.wait_s or backoff)
        attempt += 1

  async def _send_once(self, request: journal_lib.Request) -> journal_lib.Reply:
    try:
      # `chat.completions.create` sends the same request, but spends a third of the
      # client's time on converting typed parameters to JSON and back.
      body = await next(self._next_api).post(
        "/chat/completions",
        body=request.body,
        cast_to=object,
        options={"max_retries": 0},
      )
    except (openai.APIResponseValidationError, json.JSONDecodeError) as error:
      line = f"the reply is not a chat completion ({self.one_line(error)})"
    except openai.APIStatusError as error:
      response = error.response
      return reply_lib.read(
        response.content, response.status_code, response.headers, self._key
      )
    except openai.APITimeoutError:
      line = f"no answer within {self._config.timeout_s:g} s"
    except openai.APIConnectionError as error:
      line = f"the connection broke ({self.one_line(error.__cause__ or error)})"
    else:
      return reply_lib.read(body, secret=self._key)
    raise api_errors.ServerError(api_errors.Error(api_errors.Kind.BUSY, 0, line))

  def _error(self, error: "openai.APIStatusError") -> api_errors.Error:
    """The error in a response, its message on one line and without the key."""
    response = error.response
    found = api_errors.read(response.status_code, response.content, response.headers)
    return dataclasses.replace(found, message=self.one_line(found.message))

  def exception(self, error: api_errors.Error) -> errors.UserError | ask_lib.NoAnswer:
    """Returns what to raise for an error, as `status.exception` does."""
    return status_lib.exception(error, self._config, self.base_url)

  def read(self, body: object, status: int) -> journal_lib.Reply:
    """Returns the reply in a line of a batch, as `reply.read` does."""
    return reply_lib.read(body, status, secret=self._key)

  def one_line(self, error: object) -> str:
    """An error on one line, without the key, which a server may repeat."""
    return api_errors.one_line(error, self._key)


def make_request(
  config: ml_collections.ConfigDict,
  messages: tuple[journal_lib.Message, ...],
  sample: int,
) -> journal_lib.Request:
  """Returns the request for one draw of a reply."""
  parameters = {
    "temperature": config.temperature,
    config.limit_name: config.max_tokens,
    "seed": config.seed + sample,
  }
  if config.top_p != 1:  # not sent at its default, so that journals keep their keys
    parameters["top_p"] = config.top_p
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


def _without_password(url: str) -> str:
  """An address that can be printed."""
  parts = urllib.parse.urlsplit(url)
  return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
