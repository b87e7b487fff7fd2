"""A scripted teacher and judge behind OpenAI's API, with the faults of a real one.

`config.teacher.server` names this module. Replies depend on the messages and the seed
only. It answers after a delay, sometimes with 429 and Retry-After, with a refusal, or
with reasoning before the answer.
"""

import contextlib
import hashlib
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MODEL = "rehearsal-script"

_BUSY = 0.05  # share of first requests that get 429
_REFUSED = 0.3  # share of unsafe queries that the writer refuses
_REASONED = 0.2  # share of replies that begin with reasoning
_FLAWED = 0.4  # share of prompts with the judgement No
_DELAY = (0.02, 0.2)  # seconds
_UNSAFE = ("bleeding", "knife", "naked", "shooting")
_QUERY = re.compile(r'User Query: "?(.*?)"?\n\n', re.DOTALL)
_VERDICTS = ("Aligned", "Aligned", "Aligned", "Imprecise", "Unsafe", "Refusal")


@contextlib.contextmanager
def serve(options: Mapping[str, float], texts: Mapping[str, str]) -> Iterator[str]:
  """Runs the server and yields its base URL; `texts` are the stage's templates.

  Args:
    options: "port", by default any; "slower", a factor for the delays.
  """
  server = _Server(("127.0.0.1", int(options.get("port", 0))), _Handler)
  server.refine, server.slower = texts.get("refine", ""), options.get("slower", 1.0)
  thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_port}/v1"
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


def reply(messages: Sequence[Mapping[str, str]], seed: int, refine: str) -> str:
  """The reply to a chat that one of the templates made.

  Raises:
    ValueError: no template makes such a chat.
  """
  first, last = messages[0]["content"], messages[-1]["content"]
  found = _QUERY.search(first)
  query = " ".join(found[1].split()) if found else ""
  unsafe = any(word in query for word in _UNSAFE)
  chance = _Chance(messages, seed)
  if len(messages) == 3 and last == refine:
    gap = "\n" if chance("newline") < 0.1 else " "
    answer = (
      "Reflection on how to refine the prompt: it lacks light.\n\nFinal Refined Prompt:"
      f" [[start]]{_prompt(query)}{gap}Soft light falls from the left.[[end]]"
    )
  elif "[[start]]the video prompt[[end]]" in first:
    if unsafe and chance("refuse") < _REFUSED:
      return "I'm sorry, but I can't assist with that."
    answer = f"[[start]]{_prompt(query)}[[end]]"
  elif "Final Verdict" in first:
    verdict = _VERDICTS[int(chance("verdict") * len(_VERDICTS))]
    answer = f"Step-by-step verification: done.\n\nFinal Verdict: {verdict}"
    answer = answer.replace(
      "Verdict:", "Verdict (Aligned, Unsafe, Imprecise or Refusal):"
    )
  elif "Categories:" in first:
    said = "Yes" if unsafe else "No"
    answer = (
      f"Reason: as asked.\nCategories: {'Violence' if unsafe else 'none'}\n"
      f"Final Judgement (Yes or No): {said}"
    )
  elif "Final Judgement" in first:
    said = "No" if chance("flaw") < _FLAWED else "Yes"
    answer = (
      f"Step-by-step verification: rule by rule.\n\nFinal Judgement (Yes or No): {said}"
    )
  else:
    raise ValueError("no template makes such a chat")
  if chance("reason") < _REASONED:
    answer = f"<think>The query is about {query[:40]}. Let me see.</think>\n\n{answer}"
  return answer


def _prompt(query: str) -> str:
  words = [word for word in query.split() if word not in _UNSAFE]
  return (
    f"{' '.join(words)[:80]} in a wide view, with calm motion and clear colours. The"
    " camera follows slowly, and the background stays still."
  )


class _Chance:
  """Numbers from 0 to 1 that depend on the request and a name."""

  def __init__(self, messages: Sequence[Mapping[str, str]], seed: int):
    self._key = json.dumps([list(map(dict, messages)), seed])

  def __call__(self, name: str) -> float:
    digest = hashlib.sha256(f"{name} {self._key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True
  request_queue_size = 128
  refine = ""
  slower = 1.0

  def __init__(self, *arguments: Any):
    super().__init__(*arguments)
    self.seen: set[str] = set()


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  server: _Server

  def do_GET(self) -> None:
    self._send(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

  def do_POST(self) -> None:
    body = self.rfile.read(int(self.headers["Content-Length"]))
    request = json.loads(body)
    messages, seed = request["messages"], request.get("seed", 0)
    chance = _Chance(messages, seed)
    low, high = _DELAY
    time.sleep(self.server.slower * (low + (high - low) * chance("delay")))
    key = hashlib.sha256(body).hexdigest()
    if chance("busy") < _BUSY and key not in self.server.seen:
      self.server.seen.add(key)
      self._send(429, {"error": {"message": "slow down"}}, {"Retry-After": "1"})
      return
    try:
      text = reply(messages, seed, self.server.refine)
    except ValueError as error:
      self._send(400, {"error": {"message": str(error)}})
      return
    words = sum(len(m["content"].split()) for m in messages)
    usage = {"prompt_tokens": words, "completion_tokens": len(text.split())}
    choice = {
      "index": 0,
      "message": {"role": "assistant", "content": text},
      "finish_reason": "stop",
    }
    self._send(
      200,
      {
        "id": f"chatcmpl-{key[:12]}",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [choice],
        "usage": usage | {"total_tokens": sum(usage.values())},
      },
    )

  def _send(
    self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
  ) -> None:
    content = json.dumps(body).encode()
    self.send_response(status)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(content)))
    for name, value in (headers or {}).items():
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(content)

  def log_message(self, *_: Any) -> None:
    pass
