"""Checks requests before any work is done for them."""

import dataclasses
import hmac
import unicodedata

import starlette.requests
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vpo_jax.sample import lm
from vpo_jax.serve import api_errors

_MAX_READ = 64 * 2**20  # bytes read of a body that is too large
_FORBIDDEN = ("Cc", "Cs")  # Unicode categories of control characters and surrogates
_PUBLIC = ("/", "/healthz", "/metrics")  # paths that require no key


@dataclasses.dataclass(frozen=True)
class Limits:
  """The most that one request may ask for.

  Attributes:
    body: bytes of the request body.
    prompt_tokens: tokens of the whole prompt, instruction included.
    new_tokens: tokens of an answer.
    candidates: answers to all prompts of a request.
  """

  body: int = 256 * 1024
  prompt_tokens: int = 1024  # as configs/sample.py
  new_tokens: int = 2048  # release, sampling
  candidates: int = 16


class Gate:
  """ASGI middleware that rejects a wrong API key and too large a body."""

  def __init__(self, app: ASGIApp, *, body: int, key: str = ""):
    self._app, self._body, self._key = app, body, key.encode()

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
      return await self._app(scope, receive, send)
    request = starlette.requests.Request(scope, receive)
    body = await self._read(request)
    if body is None:  # disconnected
      return None
    error = self._error(request, body)
    if error is not None:
      return await error.response()(scope, receive, send)
    pending: list[Message] = [{"type": "http.request", "body": bytes(body)}]

    async def replay() -> Message:
      return pending.pop() if pending else await receive()

    return await self._app(scope, replay, send)

  async def _read(self, request: starlette.requests.Request) -> bytearray | None:
    """The body, truncated if it is too large; None if the client disconnected.

    A body that is too large is still read, because most clients read the response only
    after they have sent everything.
    """
    body, read = bytearray(), 0
    try:
      async for chunk in request.stream():
        read += len(chunk)
        if len(body) <= self._body:
          body += chunk
        if read > _MAX_READ:
          break
    except starlette.requests.ClientDisconnect:
      return None
    return body

  def _error(
    self, request: starlette.requests.Request, body: bytearray
  ) -> api_errors.ApiError | None:
    if not self._authorized(request):
      return api_errors.ApiError(
        401,
        "missing or wrong API key: send it as 'Authorization: Bearer KEY'",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
      )
    if len(body) > self._body:
      message = f"the body has more than {self._body} bytes"
      return api_errors.ApiError(413, message, code="request_too_large")
    return None

  def _authorized(self, request: starlette.requests.Request) -> bool:
    if not self._key or request.url.path in _PUBLIC:
      return True
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    equal = hmac.compare_digest(given.strip().encode("latin-1"), self._key)
    return equal and kind.lower() == "bearer"


def check_text(text: str, param: str, *, empty: bool = False) -> str:
  """Returns `text`, the value of the request's field `param`.

  Args:
    empty: whether it may be blank.

  Raises:
    ApiError: it is blank or contains control characters or lone surrogates.
  """
  if not (empty or text.strip()):
    raise api_errors.ApiError(400, f"{param} is empty", param=param)
  for character in text:
    if unicodedata.category(character) in _FORBIDDEN and character not in "\t\n\r":
      raise api_errors.ApiError(
        400, f"{param} contains the character U+{ord(character):04X}", param=param
      )
  return text


def check_user_text(
  policy: lm.LanguageModel, text: str, param: str, *, empty: bool = False
) -> str:
  """Returns `text`, which must not contain special tokens: they could end the turn.

  Args:
    empty: see `check_text`.

  Raises:
    ApiError: as `check_text`, or it contains a special token.
  """
  check_text(text, param, empty=empty)
  for token in policy.format.markers():
    if token in text:
      raise api_errors.ApiError(
        400, f"{param} contains {token}, a special token of the model", param=param
      )
  return text


def check_prompt(
  policy: lm.LanguageModel, prompt: lm.Prompt, limits: Limits, param: str
) -> None:
  """Checks the length of a prompt, which is made from the request's field `param`.

  Raises:
    ApiError: the prompt is too long.
  """
  most = min(limits.prompt_tokens, policy.config.context - 1)
  if (tokens := len(prompt.tokens)) > most:
    raise api_errors.ApiError(
      400,
      f"{param}: the prompt has {tokens} tokens; at most {most} are allowed",
      param=param,
      code="context_length_exceeded",
    )
