"""Questions answered by a vision model behind an OpenAI-compatible server.

Each question is sent with a few frames as JPEG images. The module needs only the
standard library, numpy and av. The key comes from an environment variable.

Temporary failures (a busy server, a broken connection, an incomplete reply) are
retried with backoff and jitter, or after the time in Retry-After. Permanent ones (a
refused key, an unknown model, an exhausted quota, a server that is down) end the run
with one line.
"""

from __future__ import annotations

import base64
import concurrent.futures
import http.client
import io
import json
import math
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import av
import numpy as np

from torch_bridge import questions
from torch_bridge.renderers import base as renderers_base
from torch_bridge.scorers import base

_SYSTEM = (
  "You judge one video, shown as frames in order. Answer the question with one word:"
  " yes or no."
)
_KEY = "OPENAI_API_KEY"
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0  # of the backoff
_LONGEST_RETRY_AFTER_S = 120.0
# After this many failed calls in a row, the server counts as down.
_OUTAGE = 10
_TEMPORARY = (408, 409, 429)  # and 5xx
# Error codes in replies with status 400 or 429 that no retry can fix.
_PERMANENT = (
  "insufficient_quota",
  "model_not_found",
  "unsupported_parameter",
  "unsupported_value",
)
# Raised by a broken connection or a malformed reply.
_BROKEN = (OSError, http.client.HTTPException, ValueError, KeyError, IndexError)


class HttpScorer:
  """Calls a chat completions server, several questions at once."""

  name = "http"

  def __init__(self, spec: dict[str, Any]):
    """Reads the settings; the server is first called with the first video.

    Raises:
      ModelError: the address, the model or the key is missing.
    """
    options = spec.get("options", {})
    if not options.get("base_url") or not spec.get("model"):
      raise renderers_base.ModelError(
        "the http scorer needs --config.scorer.options.base_url and"
        " --config.scorer.model"
      )
    self.questions = base.load_questions(spec)
    self.revision = self._model = spec["model"]
    self._base = options["base_url"].rstrip("/")
    self._frames = options.get("frames") or 7
    self._parallel = options.get("parallel") or 8
    self._timeout_s = options.get("timeout_s") or 120.0
    self._retries = options.get("retries") or 8
    named = options.get("key_env")
    self._key = os.environ.get(named or _KEY, "").strip()
    if named and not self._key:
      raise renderers_base.ModelError(
        f"{self._base}: the environment variable {named} is not set"
      )
    self._failures = 0
    self._fatal: renderers_base.ModelError | None = None

  def ping(self) -> None:
    """Requests the list of models, which costs nothing.

    Raises:
      ModelError: the server cannot be reached, or it refuses the key.
    """
    try:
      self._send("/models", None)
    except urllib.error.HTTPError as error:
      message = self._message(error)
      if error.code in (401, 403):
        raise self._error(error.code, message) from error
      # Some servers do not list their models, or not to every key.
    except urllib.error.URLError as error:
      raise renderers_base.ModelError(
        f"{self._base} cannot be reached ({error.reason}); check"
        " --config.scorer.options.base_url"
      ) from error
    except _BROKEN:
      pass

  def score(
    self,
    frames_THWC: np.ndarray,
    fps: float,
    text: str,
    heartbeat: Callable[[], None],
  ) -> base.Verdict:
    indices = np.linspace(0, len(frames_THWC) - 1, self._frames).round().astype(int)
    images = [_jpeg_part(frames_THWC[index]) for index in dict.fromkeys(indices)]

    def ask(question: str) -> float:
      if self._fatal:
        raise self._fatal
      try:
        return self._ask(images, questions.fill(question, text), heartbeat)
      except renderers_base.ModelError as error:
        self._fatal = error
        raise

    pool = concurrent.futures.ThreadPoolExecutor(self._parallel)
    try:
      return base.Verdict(list(pool.map(ask, self.questions.texts)))
    finally:
      pool.shutdown(cancel_futures=True)

  def _ask(
    self, images: list[dict[str, Any]], question: str, heartbeat: Callable[[], None]
  ) -> float:
    body = {
      "model": self._model,
      "temperature": 0,
      "max_tokens": 5,
      "logprobs": True,
      "top_logprobs": 10,
      "messages": [
        {"role": "system", "content": _SYSTEM},
        {
          "role": "user",
          "content": [*images, {"type": "text", "text": question}],
        },
      ],
    }
    return p_yes(self._choice(body, heartbeat))

  def _choice(
    self, body: dict[str, Any], heartbeat: Callable[[], None]
  ) -> dict[str, Any]:
    """The first choice of the reply, after retries of temporary failures."""
    failure = ""
    for attempt in range(self._retries + 1):
      wait_s = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S) * random.uniform(
        0.75, 1
      )
      try:
        choice = self._send("/chat/completions", body)["choices"][0]
        _ = choice["message"]
      except urllib.error.HTTPError as error:
        message = self._message(error)
        temporary = error.code >= 500 or error.code in _TEMPORARY
        if not temporary or any(word in message for word in _PERMANENT):
          raise self._error(error.code, message) from error
        failure = f"HTTP {error.code}: {message}"
        wait_s = self._retry_after(error) or wait_s
      except (*_BROKEN, TypeError) as error:
        failure = " ".join(f"{type(error).__name__}: {error}".split())[:200]
      else:
        self._failures = 0
        return choice
      heartbeat()
      if attempt < self._retries:
        time.sleep(wait_s)
    self._failures += 1
    line = f"{self._base}: no answer after {self._retries + 1} tries: {failure}"
    if self._failures >= _OUTAGE:
      raise renderers_base.ModelError(
        f"{line}, {_OUTAGE} calls in a row; finished answers are kept; run the same"
        " command to continue"
      )
    raise RuntimeError(line)

  def _send(self, path: str, body: dict[str, Any] | None) -> Any:
    headers = {"Content-Type": "application/json"}
    if self._key:
      headers["Authorization"] = f"Bearer {self._key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(self._base + path, data, headers)
    with urllib.request.urlopen(request, timeout=self._timeout_s) as reply:
      return json.load(reply)

  def _retry_after(self, error: urllib.error.HTTPError) -> float:
    """The seconds that the server asks to wait; 0 if it does not say.

    Raises:
      ModelError: the wait is longer than _LONGEST_RETRY_AFTER_S.
    """
    value = error.headers.get("Retry-After", "")
    wait_s = float(value) if value.replace(".", "", 1).isdigit() else 0.0
    if wait_s > _LONGEST_RETRY_AFTER_S:
      raise renderers_base.ModelError(
        f"{self._base} asks to wait {value} s; finished answers are kept; run the same"
        " command to continue"
      ) from error
    return wait_s

  def _error(self, code: int, message: str) -> Exception:
    """The error for a permanent failure: ModelError if it concerns every request."""
    if code in (401, 403):
      return renderers_base.ModelError(
        f"{self._base} refuses the key (HTTP {code}); see"
        " --config.scorer.options.key_env"
      )
    if code == 404:
      return renderers_base.ModelError(
        f"{self._base} does not know the model {self._model!r} or the address (404:"
        f" {message})"
      )
    line = f"{self._base}: HTTP {code}: {message}"
    permanent = any(word in message for word in _PERMANENT)
    return (renderers_base.ModelError if permanent else RuntimeError)(line)

  def _message(self, error: urllib.error.HTTPError) -> str:
    """The server's message on one line, without the key in case it is repeated."""
    with error:  # closes the connection
      try:
        line = " ".join(error.read(2000).decode(errors="replace").split())
      except _BROKEN:
        line = "?"
    return (line.replace(self._key, "(key)") if self._key else line)[:300]


def p_yes(choice: dict[str, Any]) -> float:
  """The probability of yes in one reply, relative to yes and no.

  From the first token's log-probabilities if the server sends them, else 1 or 0.

  Raises:
    ValueError: the reply is neither yes nor no.
  """
  tokens = ((choice.get("logprobs") or {}).get("content") or [{}])[0]
  mass = {"yes": 0.0, "no": 0.0}
  for entry in tokens.get("top_logprobs") or []:
    word = entry["token"].strip().lower()
    if word in mass:
      mass[word] += math.exp(entry["logprob"])
  if sum(mass.values()) > 0.5:
    return mass["yes"] / sum(mass.values())
  reply = choice["message"]["content"] or ""
  word = reply.strip().strip(".!*\"'").lower()
  if word not in mass:
    raise ValueError(f"the reply is neither yes nor no: {reply[:80]!r}")
  return float(word == "yes")


def _jpeg_part(frame_HWC: np.ndarray) -> dict[str, Any]:
  content = io.BytesIO()
  with av.open(content, "w", format="image2pipe") as container:
    stream: Any = container.add_stream("mjpeg", rate=1)
    stream.height, stream.width = frame_HWC.shape[:2]
    stream.pix_fmt = "yuvj420p"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  data = base64.b64encode(content.getvalue()).decode()
  return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def check(spec: dict[str, Any]) -> None:
  """Checks the settings and calls the server, before anything is rendered.

  Raises:
    ModelError: a setting is missing, or the server cannot be used.
  """
  HttpScorer(spec).ping()


make = HttpScorer
