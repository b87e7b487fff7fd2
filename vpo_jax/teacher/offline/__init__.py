"""`offline-rules`: a rule-based stand-in for a GPT-4o-class teacher.

It is no language model. It is a real HTTP server on loopback that speaks
/v1/chat/completions and /v1/models and answers the questions of the method by rules:
few-shot generation puts the query's own words before sentences of a small grammar, and
makes mistakes at set rates; critique looks for harmful terms, lost words, repetition,
broken ends, forbidden openings and flags; refinement mends what critique finds; a
verdict names the kind of the flaw. It exists so that the whole loop runs without a key
or a network. Its prompts are plain English of about 60 words, and its judgement sees
words, not meaning.

It reads a request by the very templates that the stage fills, a user's own included. A
request that fits none of them is refused with status 400. Other rules than these can
answer (`config.teacher.offline.rules`): a module with `make(options) -> Rules`.
"""

import contextlib
import http.server
import importlib
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from vpo_jax import errors, templates
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher.offline import judge, write
from vpo_jax.teacher.offline import query as query_lib

BASE_URL = "offline"  # config.teacher.base_url that starts this server
MODEL = "offline-rules"


class Rules(Protocol):
  """What answers the questions; each answer is a function of its arguments."""

  def write(self, query: str, seed: int) -> str:
    """A prompt for a query, as few-shot generation gives it."""
    ...

  def critique(self, query: str, prompt: str) -> str:
    """A critique that ends with the final judgement."""
    ...

  def refine(self, query: str, prompt: str, seed: int) -> str:
    """A reflection and the refined prompt in its markers."""
    ...

  def verdict(self, query: str, prompt: str) -> str:
    """Reasons, and one of `templates.VERDICTS` behind its marker."""
    ...


class _Own:
  """The rules of this package."""

  def write(self, query: str, seed: int) -> str:
    return write.hurried(query_lib.read(query), seed)

  def critique(self, query: str, prompt: str) -> str:
    return judge.critique(query_lib.read(query), prompt)

  def refine(self, query: str, prompt: str, seed: int) -> str:
    return judge.refine(query_lib.read(query), prompt, seed)

  def verdict(self, query: str, prompt: str) -> str:
    return judge.verdict(query_lib.read(query), prompt)


def rules(module: str, options: Mapping[str, Any]) -> Rules:
  """The rules of a module; ours, which have no options, where it is "".

  Raises:
    UserError: there is no such module, or it does not take the options.
  """
  if not module:
    return _Own()
  try:
    return importlib.import_module(module).make(dict(options))
  except (ImportError, AttributeError, ValueError) as error:
    raise errors.UserError(
      f"config.teacher.offline.rules={module!r}: {error}"
    ) from error


@contextlib.contextmanager
def serve(texts: texts_lib.Texts, by: Rules | None = None) -> Iterator[str]:
  """Runs the server while the block runs; yields its base_url.

  Args:
    texts: the templates that requests will be made with.
    by: the rules that answer; ours, if None.
  """
  server = _Server(("127.0.0.1", 0), _Handler)
  server.answers = Answers(texts, by)
  thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_port}/v1"
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


class Answers:
  """Answers by rules to messages made with the given templates."""

  def __init__(self, texts: texts_lib.Texts, by: Rules | None = None):
    self._by = by or _Own()
    self._few_shot = _pattern(texts.few_shot) if texts.few_shot else None
    self._critique = _pattern(texts.critique)
    self._refine = texts.refine
    self._alignment = _pattern(texts.alignment) if texts.alignment else None

  def reply(self, messages: Sequence[dict[str, str]], seed: int) -> str | None:
    """The reply, a function of the messages and the seed; None when none fits."""
    contents = [message["content"] for message in messages]
    if len(contents) == 3 and contents[2] == self._refine:
      found = self._critique.fullmatch(contents[0])
      if found is None:
        return None
      return self._by.refine(found["query"], found["prompt"], seed)
    if len(contents) != 1:
      return None
    if found := self._critique.fullmatch(contents[0]):
      return self._by.critique(found["query"], found["prompt"])
    if self._few_shot and (found := self._few_shot.fullmatch(contents[0])):
      return f"[[start]]{self._by.write(found['query'], seed)}[[end]]"
    if self._alignment and (found := self._alignment.fullmatch(contents[0])):
      return self._by.verdict(found["query"], found["prompt"])
    return None


def _pattern(template: str) -> re.Pattern[str]:
  """Matches what `templates.fill` makes of a template.

  Demonstrations end as soon as they can and a query ends as late as it can: a query may
  hold the words that stand around it.
  """
  marks = {"demonstrations": "\0(?P<demonstrations>.*?)\0"}
  filled = templates.fill(
    template,
    **{
      name: marks.get(name, f"\0(?P<{name}>.*)\0")
      for name in ("demonstrations", "query", "prompt")
    },
  )
  parts = filled.split("\0")
  pieces = [part if index % 2 else re.escape(part) for index, part in enumerate(parts)]
  return re.compile("".join(pieces), re.DOTALL)


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True
  request_queue_size = 256  # all of the client's connections may open at once
  answers: Answers


class _Handler(http.server.BaseHTTPRequestHandler):
  """One connection, kept open from request to request."""

  protocol_version = "HTTP/1.1"
  disable_nagle_algorithm = True
  timeout = 60

  def do_GET(self) -> None:
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "vpo-jax"}
    if self.path == "/v1/models":
      self._send(200, {"object": "list", "data": [model]})
    else:
      self._refuse(404, f"no such path: {self.path}")

  def do_POST(self) -> None:
    body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
    if self.path != "/v1/chat/completions":
      self._refuse(404, f"no such path: {self.path}")
      return
    try:
      request = json.loads(body)
      model, messages = request["model"], request["messages"]
      assert isinstance(self.server, _Server)
      text = self.server.answers.reply(messages, int(request.get("seed") or 0))
    except (ValueError, KeyError, TypeError) as error:
      self._refuse(400, f"not a chat completion request: {error}")
      return
    if model != MODEL:
      self._refuse(404, f"no such model: {model}; this server has {MODEL}")
    elif text is None:
      self._refuse(400, f"{MODEL} answers only the templates it was started with")
    else:
      asked = sum(len(message["content"]) for message in messages)
      self._send(200, _completion(text, asked))

  def _refuse(self, status: int, message: str) -> None:
    self._send(status, {"error": {"message": message, "type": "invalid_request_error"}})

  def _send(self, status: int, value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    self.send_response(status)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  def log_message(self, format: str, *args: object) -> None:
    """Says nothing: the client counts."""


def _completion(text: str, asked: int) -> dict[str, Any]:
  # Tokens as a rule of thumb counts them: four characters each.
  prompt, completion = asked // 4, len(text) // 4
  return {
    "id": "offline",
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
