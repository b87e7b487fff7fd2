"""Calls of an HTTP server, with retries; used by the http renderer and scorer.

Needs the standard library only. Temporary failures (a busy server, a broken connection,
an incomplete reply) are retried with backoff and jitter, or after the time in
Retry-After. Failures that concern every request (a refused key, an unknown model, an
exhausted quota, a server that stays down) are a ModelError, which ends the run.
`api_errors` says which is which.
"""

from __future__ import annotations

import dataclasses
import http.client
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

from torch_bridge import api_errors
from torch_bridge.renderers import base

_KEY = "OPENAI_API_KEY"
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0  # of the backoff
# After this many failed calls in a row, the server counts as down.
_OUTAGE = 10
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
    code: the HTTP status; 200 if a reply is a refusal.
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
      found = self._read(error)
      if found.kind is api_errors.Kind.KEY:
        raise self._exception(found) from error
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
        that is incomplete, and the call is then repeated; or ServerError for a reply
        with an error.
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
      except (urllib.error.HTTPError, api_errors.ServerError) as error:
        read = self._read(error)
        if unknown and read.kind is api_errors.Kind.MODEL:
          line = f"{self.address}: HTTP {read.status}: {read.message}"
          raise Refused(read.status, line) from error
        too_long = read.wait_s > api_errors.LONGEST_WAIT_S
        if read.kind is not api_errors.Kind.BUSY or too_long:
          raise self._exception(read) from error
        failure = f"HTTP {read.status}: {read.message}" if read.status else read.message
        wait_s = read.wait_s or wait_s
      except _BROKEN as error:
        line = f"{type(error).__name__}: {error}"
        failure = api_errors.one_line(line, self._key)
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

  def _read(
    self, error: urllib.error.HTTPError | api_errors.ServerError
  ) -> api_errors.Error:
    """The server's error, its message without the key in case it is repeated."""
    if isinstance(error, api_errors.ServerError):
      found = error.error
    else:
      with error:  # closes the connection
        try:
          body = error.read(1 << 20)
        except _BROKEN:
          body = b""
      found = api_errors.read(error.code, body, dict(error.headers.items()))
    line = api_errors.one_line(found.message, self._key, limit=300)
    return dataclasses.replace(found, message=line)

  def _exception(self, error: api_errors.Error) -> Exception:
    """What to raise for an error: ModelError if it concerns every request."""
    said = f"HTTP {error.status}: {error.message}"
    if error.kind is api_errors.Kind.KEY:
      return base.ModelError(
        f"{self.address} refuses the key (HTTP {error.status}): {error.message}; see"
        f" --config.{self._section}.options.key_env"
      )
    if error.kind is api_errors.Kind.MODEL:
      return base.ModelError(
        f"{self.address} does not know the model {self._model!r} or the address"
        f" ({error.status}: {error.message})"
      )
    if error.permanent:
      return base.ModelError(f"{self.address}: {said}")
    if error.wait_s > api_errors.LONGEST_WAIT_S:
      return base.ModelError(
        f"{self.address} asks to wait {error.wait_s:.0f} s ({said}); finished results"
        " are kept; run the same command to continue"
      )
    return Refused(error.status, f"{self.address}: {said}")


def _sleep(wait_s: float, heartbeat: Callable[[], None]) -> None:
  """Sleeps with a heartbeat every ten seconds."""
  until = time.monotonic() + wait_s
  while (left_s := until - time.monotonic()) > 0:
    time.sleep(min(left_s, 10.0))
    heartbeat()
