"""Questions answered by a vision model behind an OpenAI-compatible address.

Each question is asked with a few frames as JPEG images; standard library and av only,
so that any interpreter can run it. The key comes from an environment variable.
"""

from __future__ import annotations

import base64
import concurrent.futures
import io
import json
import math
import os
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
# Waits between tries, in seconds; a busy server is not the video's fault.
_WAITS = (1.0, 4.0, 15.0)


class HttpScorer:
  """Asks a chat completions server, several questions at once."""

  name = "http"

  def __init__(self, spec: dict[str, Any], asked: questions.Questions):
    options = spec.get("options", {})
    self.asked = asked
    self.revision = spec["model"]
    self._model = spec["model"]
    self._url = options["base_url"].rstrip("/") + "/chat/completions"
    self._frames = options.get("frames") or 7
    self._parallel = options.get("parallel") or 8
    self._timeout_s = options.get("timeout_s") or 120.0
    key = os.environ.get(options.get("key_env") or "OPENAI_API_KEY", "")
    self._headers = {"Content-Type": "application/json"}
    if key:
      self._headers["Authorization"] = f"Bearer {key}"

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
      answer = self._ask(images, questions.fill(question, text))
      beat()
      return answer

    with concurrent.futures.ThreadPoolExecutor(self._parallel) as pool:
      return base.Verdict(list(pool.map(ask, self.asked.texts)))

  def _ask(self, images: list[dict[str, Any]], question: str) -> float:
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
    choice = self._post(body)["choices"][0]
    return p_yes(choice)

  def _post(self, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
      self._url, json.dumps(body).encode(), self._headers
    )
    for wait in (*_WAITS, None):
      try:
        with urllib.request.urlopen(request, timeout=self._timeout_s) as reply:
          return json.load(reply)
      except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if error.code in (401, 403):
          raise renderers_base.ModelError(
            f"{self._url} refuses the key (HTTP {error.code})"
          ) from error
        if wait is None or (error.code < 500 and error.code != 429):
          raise RuntimeError(f"{self._url}: HTTP {error.code}") from error
      except (urllib.error.URLError, TimeoutError) as error:
        if wait is None:
          raise RuntimeError(f"{self._url}: {error}") from error
      time.sleep(wait)
    raise AssertionError


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


def make(spec: dict[str, Any]) -> HttpScorer:
  """Checks the settings; the server is first asked with the first video.

  Raises:
    ModelError: no address or model is named.
  """
  options = spec.get("options", {})
  if not options.get("base_url") or not spec.get("model"):
    raise renderers_base.ModelError(
      "the http scorer needs --config.scorer.options.base_url and --config.scorer.model"
    )
  from torch_bridge.scorers import checklist

  asked = questions.load(
    spec.get("questions") or str(checklist.QUESTIONS), spec.get("weights", "")
  )
  return HttpScorer(spec, asked)
