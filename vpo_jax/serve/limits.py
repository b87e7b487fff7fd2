"""What a request may ask for, checked before any work is done for it."""

import dataclasses
import hmac
import unicodedata

import starlette.requests
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vpo_jax.sample import lm
from vpo_jax.serve import refusals

_DISCARDED = 64 * 2**20  # bytes read of a body that is too large, to be heard
_NO_TEXT = ("Cc", "Cs")  # Unicode's categories of control characters and surrogates
_OPEN = ("/", "/healthz", "/metrics")  # paths that want no key


@dataclasses.dataclass(frozen=True)
class Limits:
  """Of one request, but for the queue.

  Attributes:
    body: bytes.
    prompt_tokens: of the whole prompt, instruction included.
    new_tokens: of an answer.
    candidates: of a prompt, `n`.
  """

  body: int = 256 * 1024
  prompt_tokens: int = 1024  # as configs/sample.py
  new_tokens: int = 2048  # release, sampling
  candidates: int = 16


class Gate:
  """ASGI: turns away requests without the key and bodies that are too large."""

  def __init__(self, app: ASGIApp, *, body: int, key: str = ""):
    self._app, self._body, self._key = app, body, key.encode()

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
      return await self._app(scope, receive, send)
    request = starlette.requests.Request(scope, receive)
    body = await self._read(request)
    if body is None:  # hung up
      return None
    refusal = self._refusal(request, body)
    if refusal is not None:
      return await refusal.response()(scope, receive, send)
    pending: list[Message] = [{"type": "http.request", "body": bytes(body)}]

    async def replay() -> Message:
      return pending.pop() if pending else await receive()

    return await self._app(scope, replay, send)

  async def _read(self, request: starlette.requests.Request) -> bytearray | None:
    """The body; of one that is too large the beginning.

    It is read to its end even so: most clients hear nothing before they have sent all.
    """
    kept, read = bytearray(), 0
    try:
      async for chunk in request.stream():
        read += len(chunk)
        if len(kept) <= self._body:
          kept += chunk
        if read > _DISCARDED:
          break
    except starlette.requests.ClientDisconnect:
      return None
    return kept

  def _refusal(
    self, request: starlette.requests.Request, body: bytearray
  ) -> refusals.Refusal | None:
    if not self._admits(request):
      return refusals.Refusal(
        401,
        "wrong or no API key: send it as 'Authorization: Bearer KEY'",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
      )
    if len(body) > self._body:
      message = f"the body has more than {self._body} bytes"
      return refusals.Refusal(413, message, code="request_too_large")
    return None

  def _admits(self, request: starlette.requests.Request) -> bool:
    if not self._key or request.url.path in _OPEN:
      return True
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("latin-1"), self._key)
    return same and kind.lower() == "bearer"


def plain(text: str, param: str) -> str:
  """A text that says something, without control characters and half surrogate pairs.

  Raises:
    Refusal: it is not.
  """
  if not text.strip():
    raise refusals.Refusal(400, f"{param} is empty", param=param)
  for character in text:
    if unicodedata.category(character) in _NO_TEXT and character not in "\t\n\r":
      raise refusals.Refusal(
        400, f"{param} holds U+{ord(character):04X}, which is no text", param=param
      )
  return text


def unmarked(policy: lm.LanguageModel, text: str, param: str) -> str:
  """`plain`, and without the model's special tokens, which would end the turn.

  Raises:
    Refusal: it is not.
  """
  plain(text, param)
  for marker in markers(policy):
    if marker in text:
      raise refusals.Refusal(
        400, f"{param} holds {marker}, a marker of the model's chat text", param=param
      )
  return text


def markers(policy: lm.LanguageModel) -> list[str]:
  """The texts that the model's tokenizer reads as special tokens."""
  added = policy.tokenizer.added_tokens_decoder.values()
  return [token.content for token in added if token.special]


def room(policy: lm.LanguageModel, prompt: lm.Prompt, limits: Limits) -> None:
  """Raises Refusal where a prompt is too long."""
  most = min(limits.prompt_tokens, policy.config.context - 1)
  if len(prompt.tokens) > most:
    raise refusals.Refusal(
      400,
      f"the prompt has {len(prompt.tokens)} tokens; at most {most} are taken",
      code="context_length_exceeded",
    )
