"""A server in a thread, and an engine that answers from a script."""

import asyncio
import contextlib
import threading
import time

import numpy as np
import uvicorn

from vpo_jax.sample import pool
from vpo_jax.serve import engine, server


@contextlib.contextmanager
def serving(app):
  """Serves `app` on a free loopback port and yields its address."""
  sock = server.bind("127.0.0.1", 0)
  # A browser may keep an unused connection open, hence the timeout.
  config = uvicorn.Config(
    app, log_level="critical", lifespan="off", timeout_graceful_shutdown=10
  )
  running = uvicorn.Server(config)
  thread = threading.Thread(
    target=lambda: asyncio.run(running.serve(sockets=[sock])), daemon=True
  )
  thread.start()
  while not running.started:
    time.sleep(0.01)
  try:
    yield f"http://127.0.0.1:{sock.getsockname()[1]}"
  finally:
    running.should_exit = True
    thread.join(timeout=30)
    running.force_exit = True
    thread.join(timeout=30)  # a daemon thread: it cannot block the tests


class Scripted(engine.Engine):
  """Replaces the engine: answers with the lines of a script, in turn.

  A line is a text with finish reason "stop", or (text, finish reason), or a function of
  the sampling settings that returns one. Each update has four tokens and comes after a
  pause.
  """

  slots, active, waiting, problem = 1, 0, 0, None

  def __init__(self, policy, script, pause=0.0):
    self._policy, self._script, self._pause = policy, script, pause
    self._cancelled = set()
    self.requests = []  # (prompt, sampling settings)

  def submit(self, prompt, sampling, on_update, *, retry=False):
    line = self._script[len(self.requests) % len(self._script)]
    line = line(sampling) if callable(line) else line
    text, reason = line if isinstance(line, tuple) else (line, "stop")
    self.requests.append((prompt, sampling))
    tokens = self._policy.format.tokenizer(text, add_special_tokens=False).input_ids
    tokens = tokens[: sampling.max_new_tokens] or [self._policy.format.stops[0]]
    request = object()
    parts = [tokens[start : start + 4] for start in range(0, len(tokens), 4)]

    def answer():
      for number, part in enumerate(parts, start=1):
        if self._pause:
          time.sleep(self._pause)
        if request in self._cancelled:
          return
        for index in range(sampling.num_candidates):
          last = reason if number == len(parts) else None
          job = pool.Job(
            request=request,
            index=index,
            prompt=prompt,
            settings=sampling,
            limit=len(tokens),
            key=np.zeros(2, np.uint32),
          )
          on_update(pool.Update(job, part, last))

    if self._pause:
      threading.Thread(target=answer, daemon=True).start()
    else:
      answer()
    return request

  def cancel(self, request):
    self._cancelled.add(request)

  def close(self):
    pass
