"""An OpenAI-compatible HTTP server on loopback whose model is the rule-based teacher.

It serves /v1/models and /v1/chat/completions. `config.teacher.server` of vpo_jax names
this module. Requests are recognized by the templates that the stage fills, including a
user's own; any other request gets status 400.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch_bridge.miniature import teacher as teacher_lib

MODEL = "miniature-rules"

_PLACEHOLDER = re.compile(r"\{(demonstrations|query|prompt|notes)\}")


def serve(
  options: Mapping[str, float], texts: Mapping[str, str]
) -> contextlib.AbstractContextManager[str]:
  """Returns a context manager that runs the server and yields its base URL.

  Args:
    options: the teacher's error rates (`teacher.Rates`).
    texts: template texts by name (few_shot, critique, refine, alignment, safety), with
      placeholders such as {query}; a template that the stage does not use is empty.

  Raises:
    ValueError: the options are not the teacher's rates; nothing has been started.
  """
  return _serve(Replies(texts, teacher_lib.make(options)))


@contextlib.contextmanager
def _serve(replies: Replies) -> Iterator[str]:
  server = _Server(("127.0.0.1", 0), _Handler)
  server.replies = replies
  thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_port}/v1"
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


class Replies:
  """The teacher's replies to chats made from the given templates."""

  def __init__(self, texts: Mapping[str, str], teacher: teacher_lib.Teacher):
    self._teacher = teacher
    self._refine = texts.get("refine", "")
    self._patterns = {
      name: _pattern(texts[name])
      for name in ("critique", "few_shot", "alignment", "safety")
      if texts.get(name)
    }

  def reply(self, messages: Sequence[Mapping[str, str]], seed: int) -> str | None:
    """The reply to a chat, determined by the messages and the seed.

    Returns: None if the chat was not made from one of the templates.
    """
    contents = [message["content"] for message in messages]
    if len(contents) == 3 and contents[2] == self._refine:
      fields = self._match("critique", contents[0])
      return fields and self._teacher.refine(fields["query"], fields["prompt"], seed)
    if len(contents) != 1:
      return None
    if fields := self._match("critique", contents[0]):
      return self._teacher.critique(fields["query"], fields["prompt"])
    if fields := self._match("few_shot", contents[0]):
      return f"[[start]]{self._teacher.write(fields['query'], seed)}[[end]]"
    if fields := self._match("alignment", contents[0]):
      return self._teacher.verdict(fields["query"], fields["prompt"])
    if fields := self._match("safety", contents[0]):
      return self._teacher.safety(fields["query"])
    return None

  def _match(self, name: str, content: str) -> re.Match[str] | None:
    pattern = self._patterns.get(name)
    return pattern.fullmatch(content) if pattern else None


def _pattern(template: str) -> re.Pattern[str]:
  """Matches the texts that filling the template's placeholders can give.

  Demonstrations and notes match as little as possible and a query as much as possible,
  because a query may contain the template's own words.
  """
  # `split` alternates between literal text and the name of a placeholder.
  pieces = _PLACEHOLDER.split(template)
  groups = {name: f"(?P<{name}>.*?)" for name in ("demonstrations", "notes")}
  return re.compile(
    "".join(
      groups.get(piece, f"(?P<{piece}>.*)") if index % 2 else re.escape(piece)
      for index, piece in enumerate(pieces)
    ),
    re.DOTALL,
  )


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True
  request_queue_size = 256  # the client may open all of its connections at once
  replies: Replies


class _Handler(http.server.BaseHTTPRequestHandler):
  """One connection, kept open between requests."""

  protocol_version = "HTTP/1.1"
  disable_nagle_algorithm = True
  timeout = 60

  def do_GET(self) -> None:
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "miniature"}
    if self.path == "/v1/models":
      self._send(200, {"object": "list", "data": [model]})
    else:
      self._send_error(404, f"no such path: {self.path}")

  def do_POST(self) -> None:
    body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
    if self.path != "/v1/chat/completions":
      self._send_error(404, f"no such path: {self.path}")
      return
    try:
      request = json.loads(body)
      model, messages = request["model"], request["messages"]
      assert isinstance(self.server, _Server)
      text = self.server.replies.reply(messages, int(request.get("seed") or 0))
    except (ValueError, KeyError, TypeError) as error:
      self._send_error(400, f"not a chat completion request: {error}")
      return
    if model != MODEL:
      self._send_error(404, f"no such model: {model}; this server has {MODEL}")
    elif text is None:
      self._send_error(400, f"{MODEL} answers only chats made from its templates")
    else:
      length = sum(len(message["content"]) for message in messages)
      self._send(200, _completion(text, length))

  def _send_error(self, status: int, message: str) -> None:
    self._send(status, {"error": {"message": message, "type": "invalid_request_error"}})

  def _send(self, status: int, value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    self.send_response(status)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  def log_message(self, format: str, *args: object) -> None:
    """Logs nothing: the client counts its calls."""


def _completion(text: str, prompt_length: int) -> dict[str, Any]:
  """The response body; usage assumes four characters a token."""
  prompt, completion = prompt_length // 4, len(text) // 4
  return {
    "id": "miniature",
    "object": "chat.completion",
    "created": 0,
    "model": MODEL,
    "choices": [
      {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
      }
    ],
    "usage": {
      "prompt_tokens": prompt,
      "completion_tokens": completion,
      "total_tokens": prompt + completion,
    },
  }
