"""Questions answered by a vision model behind an OpenAI-compatible server.

Each question is sent with a few frames as JPEG images. The module needs only the
standard library, numpy and av. The key comes from an environment variable.

Calls are retried as `client` says. A failure that concerns every request ends the run
with one line. So does a model that reasons for longer than the token limit before its
first answer.
"""

from __future__ import annotations

import base64
import concurrent.futures
import io
import json
import math
from collections.abc import Callable
from typing import Any

import av
import numpy as np

from torch_bridge import api_errors, chat_reply, client, questions
from torch_bridge.renderers import base as renderers_base
from torch_bridge.scorers import base

_MAX_TOKENS = 5  # enough for "Yes." of a model that does not reason
_SYSTEM = (
  "You judge one video, shown as frames in order. Answer the question with one word:"
  " yes or no."
)


class HttpScorer:
  """Calls a chat completions server, several questions at once."""

  name = "http"

  def __init__(self, spec: dict[str, Any]):
    """Reads the settings; the server is first called with the first video.

    Raises:
      ModelError: the address, the model or the key is missing.
    """
    options = spec.get("options", {})
    self._client = client.Client("scorer", spec, timeout_s=120.0, retries=8)
    self.questions = base.load_questions(spec)
    self.revision = self._model = spec["model"]
    self._frames = options.get("frames") or 7
    self._parallel = options.get("parallel") or 8
    self._max_tokens = options.get("max_tokens") or _MAX_TOKENS
    self._answered = False
    self._fatal: renderers_base.ModelError | None = None

  def ping(self) -> None:
    """Requests the list of models, which costs nothing.

    Raises:
      ModelError: the server cannot be reached, or it refuses the key.
    """
    self._client.ping()

  def score(
    self,
    frames_THWC: np.ndarray,
    fps: float,
    text: str,
    heartbeat: Callable[[], None],
  ) -> base.Verdict:
    images = jpeg_parts(frames_THWC, self._frames)

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
      "max_tokens": self._max_tokens,
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
    said = self._client.call(
      "POST", "/chat/completions", reply, heartbeat, json.dumps(body).encode()
    )
    if said.refusal:
      line = api_errors.one_line(said.text) or said.finish_reason
      raise client.Refused(200, f"{self._client.address}: refused: {line}")
    try:
      found = probability(said)
    except ValueError as error:
      if said.finish_reason != "length":
        raise
      # A model that has never answered would be cut off at every question.
      kind = ValueError if self._answered else renderers_base.ModelError
      raise kind(
        f"{self._client.address}: the model {self._model!r} reached"
        f" max_tokens={self._max_tokens} before its answer; if it reasons, set"
        " --config.scorer.options.max_tokens to a larger limit, such as 4096"
      ) from error
    self._answered = True
    return found


def reply(content: bytes) -> chat_reply.Reply:
  """A chat completion's body."""
  return chat_reply.read(json.loads(content))


def probability(said: chat_reply.Reply) -> float:
  """The probability of yes in one reply, relative to yes and no.

  From the first token's log-probabilities if the server sends them and that token is
  the answer; else 1 or 0. In a reply with reasoning, the first token belongs to that.

  Raises:
    ValueError: the reply is neither yes nor no.
  """
  mass = {"yes": 0.0, "no": 0.0}
  if said.token_logprobs and not said.reasoned:
    first = said.token_logprobs[0]
    top = first.get("top_logprobs") or []
    if _word(first if "token" in first else top[0]) in mass:
      for entry in top:
        if _word(entry) in mass:
          mass[_word(entry)] += math.exp(entry["logprob"])
  if sum(mass.values()) > 0.5:
    return mass["yes"] / sum(mass.values())
  word = said.text.strip().strip(".!*\"'").lower()
  if word not in mass:
    raise ValueError(f"the reply is neither yes nor no: {said.text[:80]!r}")
  return float(word == "yes")


def _word(token: dict[str, Any]) -> str:
  return token["token"].strip().lower()


def jpeg_parts(frames_THWC: np.ndarray, count: int) -> list[dict[str, Any]]:
  """Evenly spaced frames of a video, with the first and the last, as JPEG images."""
  indices = np.linspace(0, len(frames_THWC) - 1, count).round().astype(int)
  return [_jpeg_part(frames_THWC[index]) for index in dict.fromkeys(indices)]


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
