"""Calls of an HTTP server, with retries; used by the http renderer and scorer.

Needs the standard library only. Temporary failures (a busy server, a broken connection,
an incomplete reply) are retried with backoff and jitter, or after the time in
Retry-After. Failures that concern every request (a refused key, an unknown model, an
exhausted quota, a server that stays down) are a ModelError, which ends the run.
"""

from __future__ import annotations

import http.client
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

from torch_bridge.renderers import base

_KEY = "OPENAI_API_KEY"
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0  # of the backoff
_LONGEST_RETRY_AFTER_S = 120.0
# After this many failed calls in a row, the server counts as down.
_OUTAGE = 10
_TEMPORARY = (408, 409, 425, 429)  # and 5xx
# Error codes in replies with status 400 or 429 that no retry can fix.
_PERMANENT = (
  "insufficient_quota",
  "model_not_found",
  "unsupported_parameter",
  "unsupported_value",
)
# Raised by a broken connection or a malformed reply.
_BROKEN = (
  OSError,
  http.client.HTTPException,
  ValueError,
  KeyError,
  IndexError,
  TypeError,
)

T = TypeVar("T")


class Refused(RuntimeError):
  """The server refuses this request; others may be accepted.

  Attributes:
    code: the HTTP status.
  """

  def __init__(self, code: int, line: str):
    super().__init__(line)
    self.code = code


class Client:
  """One server with its address, key and retries."""

  def __init__(
    self,
    section: str,
    spec: dict[str, Any],
    *,
    timeout_s: float,
    retries: int,
    longest_wait_s: float = _LONGEST_WAIT_S,
  ):
    """Reads the settings; calls nothing.

    Args:
      section: of the config, for messages: "renderer" or "scorer".
      spec: with `model` and the options `base_url`, `key_env`, `timeout_s`, `retries`.
      timeout_s: of one call, unless the options name another.
      retries: of one call, likewise.
      longest_wait_s: between two retries.

    Raises:
      ModelError: the address, the model or the key is missing.
    """
    options = spec.get("options", {})
    if not options.get("base_url") or not spec.get("model"):
      raise base.ModelError(
        f"the http {section} needs --config.{section}.options.base_url and"
        f" --config.{section}.model"
      )
    self._section = section
    self._model = spec["model"]
    self.address = options["base_url"].rstrip("/")
    self._timeout_s = options.get("timeout_s") or timeout_s
    self._retries = options.get("retries") or retries
    self._longest_wait_s = longest_wait_s
    named = options.get("key_env")
    self._key = os.environ.get(named or _KEY, "").strip()
    if named and not self._key:
      raise base.ModelError(
        f"{self.address}: the environment variable {named} is not set"
      )
    self._failures = 0

  def ping(self) -> None:
    """Requests the list of models, which costs nothing.

    Raises:
      ModelError: the server cannot be reached, or it refuses the key.
    """
    try:
      self.send("GET", "/models")
    except urllib.error.HTTPError as error:
      message = self._message(error)
      if error.code in (401, 403):
        raise self._error(error.code, message) from error
      # Some servers do not list their models, or not to every key.
    except urllib.error.URLError as error:
      raise base.ModelError(
        f"{self.address} cannot be reached ({error.reason}); check"
        f" --config.{self._section}.options.base_url"
      ) from error
    except _BROKEN:
      pass

  def call(
    self,
    method: str,
    path: str,
    parse: Callable[[bytes], T],
    heartbeat: Callable[[], None],
    data: bytes | None = None,
    content_type: str = "application/json",
    unknown: bool = False,
  ) -> T:
    """The parsed reply, after retries of temporary failures.

    Args:
      parse: raises one of ValueError, KeyError, IndexError or TypeError for a reply
        that is incomplete; the call is then repeated.
      heartbeat: called after each failure.
      unknown: 404 means that the path names something unknown to the server, not a
        wrong address.

    Raises:
      Refused: the server refuses this request.
      ModelError: it would refuse every request, or has been down for long.
      RuntimeError: there was no answer after all retries.
    """
    failure = ""
    for attempt in range(self._retries + 1):
      wait_s = min(_FIRST_WAIT_S * 2**attempt, self._longest_wait_s)
      wait_s *= random.uniform(0.75, 1)
      try:
        found = parse(self.send(method, path, data, content_type))
      except urllib.error.HTTPError as error:
        message = self._message(error)
        if error.code == 404 and unknown:
          raise Refused(404, f"{self.address}: HTTP 404: {message}") from error
        temporary = error.code >= 500 or error.code in _TEMPORARY
        if not temporary or any(word in message for word in _PERMANENT):
          raise self._error(error.code, message) from error
        failure = f"HTTP {error.code}: {message}"
        wait_s = self._retry_after(error) or wait_s
      except _BROKEN as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        failure = self._without_key(line)[:200]
      else:
        self._failures = 0
        return found
      heartbeat()
      if attempt < self._retries:
        _sleep(wait_s, heartbeat)
    self._failures += 1
    line = f"{self.address}: no answer after {self._retries + 1} tries: {failure}"
    if self._failures >= _OUTAGE:
      raise base.ModelError(
        f"{line}; {_OUTAGE} calls in a row failed; finished results are kept; run the"
        " same command to continue"
      )
    raise RuntimeError(line)

  def send(
    self,
    method: str,
    path: str,
    data: bytes | None = None,
    content_type: str = "application/json",
  ) -> bytes:
    """One call without retries."""
    headers = {"Content-Type": content_type} if data is not None else {}
    if self._key:
      headers["Authorization"] = f"Bearer {self._key}"
    url = self.address + path
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=self._timeout_s) as reply:
      return reply.read()

  def _retry_after(self, error: urllib.error.HTTPError) -> float:
    """The seconds that the server asks to wait; 0 if it does not say.

    Raises:
      ModelError: the wait is longer than _LONGEST_RETRY_AFTER_S.
    """
    value = error.headers.get("Retry-After", "")
    wait_s = float(value) if value.replace(".", "", 1).isdigit() else 0.0
    if wait_s > _LONGEST_RETRY_AFTER_S:
      raise base.ModelError(
        f"{self.address} asks to wait {value} s; finished results are kept; run the"
        " same command to continue"
      ) from error
    return wait_s

  def _error(self, code: int, message: str) -> Exception:
    """The error for a permanent failure: ModelError if it concerns every request."""
    if code in (401, 403):
      return base.ModelError(
        f"{self.address} refuses the key (HTTP {code}); see"
        f" --config.{self._section}.options.key_env"
      )
    if code in (404, 405):
      return base.ModelError(
        f"{self.address} does not know the model {self._model!r} or the address"
        f" ({code}: {message})"
      )
    line = f"{self.address}: HTTP {code}: {message}"
    if any(word in message for word in _PERMANENT):
      return base.ModelError(line)
    return Refused(code, line)

  def _message(self, error: urllib.error.HTTPError) -> str:
    """The server's message on one line, without the key in case it is repeated."""
    with error:  # closes the connection
      try:
        line = " ".join(error.read(2000).decode(errors="replace").split())
      except _BROKEN:
        line = "?"
    return self._without_key(line)[:300]

  def _without_key(self, line: str) -> str:
    return line.replace(self._key, "(key)") if self._key else line


def _sleep(wait_s: float, heartbeat: Callable[[], None]) -> None:
  """Sleeps with a heartbeat every ten seconds."""
  until = time.monotonic() + wait_s
  while (left_s := until - time.monotonic()) > 0:
    time.sleep(min(left_s, 10.0))
    heartbeat()
