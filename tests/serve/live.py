"""A server in a thread of the tests, and a model that is no model."""

import asyncio
import contextlib
import threading
import time
import types

import uvicorn

from vpo_jax.sample import pool
from vpo_jax.serve import server


@contextlib.contextmanager
def serving(app):
  """Serves `app` on a free port of loopback; gives its address."""
  held = server.bind("127.0.0.1", 0)
  # A browser may keep a connection that it never used.
  config = uvicorn.Config(
    app, log_level="critical", lifespan="off", timeout_graceful_shutdown=10
  )
  running = uvicorn.Server(config)
  thread = threading.Thread(
    target=lambda: asyncio.run(running.serve(sockets=[held])), daemon=True
  )
  thread.start()
  while not running.started:
    time.sleep(0.01)
  try:
    yield f"http://127.0.0.1:{held.getsockname()[1]}"
  finally:
    running.should_exit = True
    thread.join(timeout=30)
    running.force_exit = True
    thread.join(timeout=30)  # a daemon: what still hangs holds nobody


class Scripted:
  """In an engine's place: says the lines of its script in turn, again and again.

  A line is a text that ends by itself, or (text, finish reason). A pause is taken
  between any four tokens.
  """

  slots, active, waiting, problem = 1, 0, 0, None

  def __init__(self, policy, script, pause=0.0):
    self._policy, self._script, self._pause = policy, script, pause
    self._cancelled = set()
    self.asked = []  # (prompt, settings), a pair a call

  def submit(self, prompt, wanted, listen, *, again=False):
    line = self._script[len(self.asked) % len(self._script)]
    text, reason = line if isinstance(line, tuple) else (line, "stop")
    self.asked.append((prompt, wanted))
    tokens = self._policy.tokenizer(text, add_special_tokens=False).input_ids
    tokens = tokens[: wanted.max_new_tokens] or [self._policy.stop[0]]
    ticket = object()
    parts = [tokens[at : at + 4] for at in range(0, len(tokens), 4)]

    def speak():
      for number, part in enumerate(parts, start=1):
        if self._pause:
          time.sleep(self._pause)
        if ticket in self._cancelled:
          return
        for index in range(wanted.num_candidates):
          last = reason if number == len(parts) else None
          job = types.SimpleNamespace(index=index)
          listen(pool.Update(job, part, last))

    if self._pause:
      threading.Thread(target=speak, daemon=True).start()
    else:
      speak()
    return ticket

  def cancel(self, ticket):
    self._cancelled.add(ticket)

  def close(self):
    pass
