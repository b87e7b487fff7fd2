"""Questions answered by a vision model behind an OpenAI-compatible address.

Each question is asked with a few frames as JPEG images; standard library and av only,
so that any interpreter can run it. The key comes from an environment variable.

What passes (a busy server, a broken line, half a reply) is tried again, with backoff
and jitter or for as long as Retry-After says. What no try mends (a refused key, an
unknown model, a used-up quota, a server that is down) ends the run in one line.
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
_FIRST_S, _LONGEST_S = 0.5, 8.0  # of the backoff, in seconds
_PATIENCE_S = 120.0  # the longest Retry-After that is waited for
# Calls in a row, none answered between them, after which the server counts as down.
_OUTAGE = 10
_PASSING = (408, 409, 429)  # and 5xx
# What servers answer with 400 or 429 where no request of the run can succeed.
_HOPELESS = (
  "insufficient_quota",
  "model_not_found",
  "unsupported_parameter",
  "unsupported_value",
)
# What a line that breaks or a reply that is none raises.
_BROKEN = (OSError, http.client.HTTPException, ValueError, KeyError, IndexError)


class HttpScorer:
  """Asks a chat completions server, several questions at once."""

  name = "http"

  def __init__(self, spec: dict[str, Any]):
    """Reads the settings; the server is first asked with the first video.

    Raises:
      ModelError: no address or model is named, or the key is not there.
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
        f"{self._base}: the environment variable {named} holds no key"
      )
    self._failures = 0
    self._fatal: renderers_base.ModelError | None = None

  def reach(self) -> None:
    """Asks for the list of models, which costs nothing.

    Raises:
      ModelError: nobody answers at the address, or the key is refused.
    """
    try:
      self._send("/models", None)
    except urllib.error.HTTPError as error:
      said = self._told(error)
      if error.code in (401, 403):
        raise self._refused(error.code, said) from error
      # Not every server lists its models, or lets every key list them.
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
    beat: Callable[[], None],
  ) -> base.Verdict:
    places = np.linspace(0, len(frames_THWC) - 1, self._frames).round().astype(int)
    images = [_jpeg_part(frames_THWC[place]) for place in dict.fromkeys(places)]

    def ask(question: str) -> float:
      if self._fatal:
        raise self._fatal
      try:
        return self._ask(images, questions.fill(question, text), beat)
      except renderers_base.ModelError as error:
        self._fatal = error
        raise

    pool = concurrent.futures.ThreadPoolExecutor(self._parallel)
    try:
      return base.Verdict(list(pool.map(ask, self.questions.texts)))
    finally:
      pool.shutdown(cancel_futures=True)

  def _ask(
    self, images: list[dict[str, Any]], question: str, beat: Callable[[], None]
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
    return p_yes(self._choice(body, beat))

  def _choice(self, body: dict[str, Any], beat: Callable[[], None]) -> dict[str, Any]:
    """The first choice of a reply, asked for again while what fails may pass."""
    failure = ""
    for attempt in range(self._retries + 1):
      wait_s = min(_FIRST_S * 2**attempt, _LONGEST_S) * random.uniform(0.75, 1)
      try:
        choice = self._send("/chat/completions", body)["choices"][0]
        _ = choice["message"]
      except urllib.error.HTTPError as error:
        said = self._told(error)
        passes = error.code >= 500 or error.code in _PASSING
        if not passes or any(word in said for word in _HOPELESS):
          raise self._refused(error.code, said) from error
        failure = f"HTTP {error.code}: {said}"
        wait_s = self._asked_to_wait(error) or wait_s
      except (*_BROKEN, TypeError) as error:
        failure = " ".join(f"{type(error).__name__}: {error}".split())[:200]
      else:
        self._failures = 0
        return choice
      beat()
      if attempt < self._retries:
        time.sleep(wait_s)
    self._failures += 1
    line = f"{self._base}: no answer after {self._retries + 1} tries: {failure}"
    if self._failures >= _OUTAGE:
      raise renderers_base.ModelError(
        f"{line}, {_OUTAGE} calls in a row; every answer so far is kept, run the same"
        " command to go on"
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

  def _asked_to_wait(self, error: urllib.error.HTTPError) -> float:
    """Seconds; 0 where the server does not say.

    Raises:
      ModelError: longer than anyone would wait.
    """
    said = error.headers.get("Retry-After", "")
    wait_s = float(said) if said.replace(".", "", 1).isdigit() else 0.0
    if wait_s > _PATIENCE_S:
      raise renderers_base.ModelError(
        f"{self._base} asks to wait {said} s; every answer so far is kept, run the same"
        " command to go on"
      ) from error
    return wait_s

  def _refused(self, code: int, said: str) -> Exception:
    """What no retry mends: the run's fault, or (400 and the like) this request's."""
    if code in (401, 403):
      return renderers_base.ModelError(
        f"{self._base} refuses the key (HTTP {code}); see"
        " --config.scorer.options.key_env"
      )
    if code == 404:
      return renderers_base.ModelError(
        f"{self._base} does not know model {self._model!r} or that address (404:"
        f" {said})"
      )
    line = f"{self._base}: HTTP {code}: {said}"
    hopeless = any(word in said for word in _HOPELESS)
    return (renderers_base.ModelError if hopeless else RuntimeError)(line)

  def _told(self, error: urllib.error.HTTPError) -> str:
    """The server's own words on one line, without the key that it may repeat."""
    with error:  # it holds the connection
      try:
        line = " ".join(error.read(2000).decode(errors="replace").split())
      except _BROKEN:
        line = "?"
    return (line.replace(self._key, "(key)") if self._key else line)[:300]


def p_yes(choice: dict[str, Any]) -> float:
  """The probability of yes against no in one reply.

  From the first token's log-probabilities where the server gives them, else 1 or 0.

  Raises:
    ValueError: the reply is neither yes nor no; it is never guessed.
  """
  tokens = ((choice.get("logprobs") or {}).get("content") or [{}])[0]
  chance = {"yes": 0.0, "no": 0.0}
  for entry in tokens.get("top_logprobs") or []:
    word = entry["token"].strip().lower()
    if word in chance:
      chance[word] += math.exp(entry["logprob"])
  if sum(chance.values()) > 0.5:
    return chance["yes"] / sum(chance.values())
  reply = choice["message"]["content"] or ""
  word = reply.strip().strip(".!*\"'").lower()
  if word not in chance:
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
  """Looks for the server before anything is rendered.

  Raises:
    ModelError: a setting is missing, nobody answers, or the key is refused.
  """
  HttpScorer(spec).reach()


make = HttpScorer
