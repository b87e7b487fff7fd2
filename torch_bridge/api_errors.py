"""Reads the errors of OpenAI-compatible servers and says what each one means.

Providers and gateways agree on no form: the error may be an object, a list, text or a
page, its code a word or a number, and the cause may be nested in another provider's
error. Needs the standard library only.

Sources: the error pages of OpenAI, Azure OpenAI, Gemini and Vertex AI, Bedrock,
Anthropic, DeepSeek, DashScope, Moonshot, Zhipu, xAI, OpenRouter and LiteLLM.
"""

from __future__ import annotations

import dataclasses
import enum
import http
import json
import re
from collections.abc import Mapping
from typing import Any

from torch_bridge import retry_after

# The longest wait that a server may ask for, in seconds; the openai library's limit.
LONGEST_WAIT_S = 120.0


class Kind(enum.Enum):
  """What an error means for this request and for others."""

  REFUSED = "a content filter declined this request"
  KEY = "the key is wrong, or may not do this"
  BILLING = "the quota or the credit is used up"
  MODEL = "the model or the address is unknown"
  PARAMETER = "the model does not support a parameter"
  BUSY = "temporary; the same request may succeed"
  REJECTED = "only this request is wrong"


# Kinds that concern every request.
PERMANENT = (Kind.KEY, Kind.BILLING, Kind.MODEL, Kind.PARAMETER)

# Codes are compared in lower case and without punctuation.
_CODES = {
  Kind.REFUSED: {
    "1301",  # Zhipu
    "blocklist",
    "contentblocked",
    "contentfilter",
    "contentfiltered",
    "contentpolicyviolation",
    "contentpolicyviolationerror",
    "datainspectionfailed",
    "guardrailintervened",
    "imagesafety",
    "moderationblocked",
    "moderationflagged",
    "prohibitedcontent",
    "recitation",
    "responsibleaipolicyviolation",
    "safety",
    "spii",
  },
  Kind.BILLING: {
    "arrearage",
    "billingerror",
    "billinghardlimitreached",
    "billingnotactive",
    "exceededcurrentquotaerror",
    "insufficientbalance",
    "insufficientcredits",
    "insufficientfunds",
    "insufficientquota",
    "paymentrequired",
  },
  Kind.KEY: {
    "accountdeactivated",
    "apikeyinvalid",
    "authenticationerror",
    "invalidapikey",
    "invalidauthentication",
    "permissiondenied",
    "permissionerror",
    "unauthenticated",
    "unauthorized",
  },
  Kind.MODEL: {
    "deploymentnotfound",
    "invalidmodel",
    "modeldecommissioned",
    "modelnotexist",
    "modelnotfound",
  },
  Kind.PARAMETER: {
    "extraforbidden",
    "unknownparameter",
    "unsupportedparameter",
    "unsupportedvalue",
  },
}
# Filters that have no code of their own are known by their words.
_FILTER_WORDS = re.compile(
  r"contentpolicyviolation|content management policy|responsibleaipolicyviolation"
  r"|code['\"]: ?['\"]content_(filter|policy_violation)['\"]"
  r"|content filtering policy|content exists risk|violated guardrail policy"
  r"|flagged as potentially violating|rejected (as a result of|by) our safety system"
  r"|violates usage guidelines|considered high risk|input (was )?flagged"
  r"|flagged by moderation|violated content safety policy|blocked pii entity"
  r"|guardrail_intervened"
  r"|may contain inappropriate content|不安全或敏感内容"
  r"|(prompt|response|content|request|input|output) (was|has been) blocked"
  r" (due to|because of|by) .*(safety|polic|prohibit|content|blocklist|guardrail)",
  re.IGNORECASE,
)
_BILLING_WORDS = re.compile(
  r"\bbilling\b|insufficient (account )?(balance|credit|funds|quota)|credit balance"
  r"|payment required",
  re.IGNORECASE,
)
# A prompt that an error repeats may have these words, so they need a status that says
# more than that the request is wrong.
_CREDIT_WORDS = re.compile(r"(not enough|no|more|out of) credits", re.IGNORECASE)
# Of a limit by the minute, whose message may advise to pay.
_RATE_LIMITS = {"ratelimitexceeded", "ratelimitreached", "ratelimiterror"}
_KEY_WORDS = re.compile(
  r"(api key|token) (is )?(not valid|invalid)|invalid api key", re.I
)
# Statuses that say that the address is wrong, or that the model is gone.
_NOT_THERE = (301, 302, 303, 307, 308, 404, 405, 410, 501)
_TEMPORARY = (408, 409, 425, 429)  # and 5xx

_CODE_KEYS = ("code", "type", "status", "reason", "error_type", "error_code", "__type")
_MESSAGE_KEYS = (
  "message",
  "msg",
  "error",
  "detail",
  "raw",
  "error_msg",
  "errorMessage",
)
# Copies of the request, whose words are not the server's.
_ECHOES = ("input", "messages", "request", "prompt", "headers", "flagged_input")


@dataclasses.dataclass(frozen=True)
class Error:
  """A server's error.

  Attributes:
    status: the HTTP status, or the one that the body of a reply with status 200 names;
      0 if there is none.
    message: the server's words on one line. They may contain the key: see `one_line`.
    wait_s: the seconds that the server asks to wait; 0 if it does not say.
  """

  kind: Kind
  status: int
  message: str
  wait_s: float = 0.0

  @property
  def permanent(self) -> bool:
    """Whether every request would fail."""
    return self.kind in PERMANENT


class ServerError(Exception):
  """A response that is an error, or that is not what was asked for."""

  def __init__(self, error: Error):
    super().__init__(error.message)
    self.error = error


def read(status: int, body: object, headers: Mapping[str, Any] | None = None) -> Error:
  """Returns the error in a response.

  Args:
    status: of HTTP; 200 or 0 if the error is in the body of a good response.
    body: parsed JSON, or text or bytes, which may be JSON.
    headers: of the response, by names in any case.
  """
  found = _Found()
  found.add(_parsed(body))
  if status < 300:
    status = found.status
  wait_s = retry_after.seconds(headers or {}) or found.wait_s
  kind = _kind(status, found, wait_s)
  return Error(kind, status, _message(status, found), wait_s)


def is_filtered(*bodies: object) -> bool:
  """Whether a content filter reports in one of these JSON values that it acted."""
  found = _Found()
  for body in bodies:
    found.add(body)
  return not found.codes.isdisjoint(_CODES[Kind.REFUSED])


def one_line(text: object, secret: str = "", limit: int = 200) -> str:
  """Returns text on one line without the secret, at most `limit` characters.

  Half a surrogate pair, which cannot be written to a file, becomes U+FFFD.
  """
  line = " ".join(well_formed(str(text)).split())
  if secret:  # before the line is cut, which could leave a part of it
    line = line.replace(secret, "(key)")
  return line[:limit]


def well_formed(text: str) -> str:
  """Replaces each half of a surrogate pair by U+FFFD."""
  return re.sub("[\ud800-\udfff]", "\ufffd", text)


class _Found:
  """What an error's JSON says, at any depth."""

  def __init__(self):
    self.codes: set[str] = set()
    self.words: list[str] = []
    self.messages: list[str] = []
    self.status = 0
    self.wait_s = 0.0

  def add(self, value: object, depth: int = 0) -> None:
    if depth > 8:
      return
    if isinstance(value, str):
      inner = _parsed(value)
      if inner is not value:  # a gateway's copy of its provider's error
        self.add(inner, depth + 1)
      elif value.strip() and value not in self.messages:
        self.messages.append(value)
    elif isinstance(value, list):
      for item in value:
        self.add(item, depth + 1)
    elif isinstance(value, dict):
      for key, item in value.items():
        self._add_field(str(key), item, depth)

  def _add_field(self, key: str, value: Any, depth: int) -> None:
    if key in _CODE_KEYS and isinstance(value, str | int):
      self.words.append(str(value))
      self.codes.add(_plain(str(value)))
      digits = str(value)
      if not self.status and digits.isdecimal() and 400 <= int(digits) < 600:
        self.status = int(digits)
    if key in ("status_code", "statusCode") and not self.status:
      self._add_field("code", value, depth)
    if _plain(key) == "blockreason" and value and "unspecified" not in _plain(value):
      self.codes.add("contentblocked")
    if key == "flagged_input" or (key == "filtered" and value is True):
      self.codes.add("contentfiltered")
    if _plain(key) == "retrydelay":  # Gemini: "34s"
      self.wait_s = retry_after.seconds({"retry-after": str(value)})
    if key in _ECHOES:
      return
    if isinstance(value, list) and key not in _MESSAGE_KEYS:
      value = [item for item in value if not isinstance(item, str)]
    if isinstance(value, dict | list) or key in _MESSAGE_KEYS:
      self.add(value, depth + 1)


def _kind(status: int, found: _Found, wait_s: float) -> Kind:
  message = " ".join(found.messages)[:4000]

  def says(kind: Kind) -> bool:
    return not found.codes.isdisjoint(_CODES[kind])

  if says(Kind.REFUSED) or _FILTER_WORDS.search(message):
    return Kind.REFUSED
  if status == 402 or says(Kind.BILLING):
    return Kind.BILLING
  # Limits by the minute mention billing too; Gemini's names the wait, OpenAI's a code.
  brief = wait_s or not found.codes.isdisjoint(_RATE_LIMITS)
  if status in (400, 403, 429) and not brief and _BILLING_WORDS.search(message):
    return Kind.BILLING
  if status in (403, 429) and not brief and _CREDIT_WORDS.search(message):
    return Kind.BILLING
  if status in (401, 403) or says(Kind.KEY):
    return Kind.KEY
  if status == 400 and _KEY_WORDS.search(message):
    return Kind.KEY
  if status in _NOT_THERE or says(Kind.MODEL):
    return Kind.MODEL
  if says(Kind.PARAMETER):
    return Kind.PARAMETER
  if not status or status >= 500 or status in _TEMPORARY:
    return Kind.BUSY
  return Kind.REJECTED


def _message(status: int, found: _Found) -> str:
  """The server's words, or its codes, or the status's name."""
  words = [_without_tags(message) for message in found.messages]
  line = "; ".join(filter(None, words)) or " ".join(found.words)
  if not line and status in http.HTTPStatus.__members__.values():
    line = http.HTTPStatus(status).phrase
  return one_line(line or "no message", limit=4000)


def _without_tags(text: str) -> str:
  """The title of a page, or else its text."""
  if not text.lstrip().startswith("<"):
    return text
  title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
  return (title[1] if title else re.sub(r"<[^>]*>", " ", text)).strip()


def _parsed(body: object) -> object:
  """JSON in text or bytes, parsed; other values as they are."""
  if isinstance(body, bytes):
    body = body.decode(errors="replace")
  if isinstance(body, str) and body.lstrip()[:1] in ("{", "["):
    try:
      return json.loads(body)
    except (ValueError, RecursionError):
      return body
  return body


def _plain(code: object) -> str:
  return re.sub(r"[^a-z0-9]", "", str(code).lower())
