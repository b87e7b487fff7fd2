"""Binds, loads, serves, and leaves nothing unanswered on SIGTERM."""

import asyncio
import os
import signal
import socket

import uvicorn

from vpo_jax import errors
from vpo_jax.runtime import console
from vpo_jax.sample import lm
from vpo_jax.serve import engine as engines
from vpo_jax.serve import limits as limits_lib
from vpo_jax.serve import metrics, service, web

_LONGEST_END = 600  # seconds for what is begun, after SIGTERM: a client may not read
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def key_of(name: str) -> str:
  """The API key that the environment variable `name` holds; "" for no name.

  Raises:
    UserError: there is no such variable, or it is empty.
  """
  if name and not os.environ.get(name):
    raise errors.UserError(f"${name} holds no API key: export {name}=...")
  return os.environ[name] if name else ""


def bind(host: str, port: int) -> socket.socket:
  """A socket that is held while the model loads, and does not listen yet.

  Raises:
    UserError: the address cannot be had.
  """
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  held = socket.socket(family, socket.SOCK_STREAM)
  held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    held.bind((host, port))
  except (OSError, OverflowError) as error:
    held.close()
    reason = getattr(error, "strerror", None) or error
    raise errors.UserError(f"--host={host} --port={port}: {reason}") from error
  return held


def serve(
  held: socket.socket,
  policy: lm.LanguageModel,
  *,
  slots: int,
  queue_size: int,
  limits: limits_lib.Limits,
  guard_language: str,
  aliases: tuple[str, ...] = (),
  key: str = "",
) -> None:
  """Serves until SIGTERM or SIGINT; then takes nothing new, and ends what is begun.

  Args:
    held: from `bind`.
    slots: candidates decoded side by side.
    queue_size: candidates that may wait for a slot.
    guard_language, aliases: see `service.Service`.
    key: see `web.make`.
  """
  engine = engines.Engine(policy, slots=slots, queue_size=queue_size)
  shared = service.Service(
    policy, engine, limits, metrics.Metrics(engine), guard_language, aliases
  )
  config = uvicorn.Config(
    web.make(shared, key=key),
    log_level="warning",
    access_log=False,
    server_header=False,
    timeout_graceful_shutdown=_LONGEST_END,
  )
  server = uvicorn.Server(config)
  # uvicorn raises the signal again when it is done: it must not be died of.
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, server.handle_exit)
  asyncio.run(_run(server, held, bool(key)))
  console.say("stopped: every request was answered")


async def _run(server: uvicorn.Server, held: socket.socket, has_key: bool) -> None:
  serving = asyncio.create_task(server.serve(sockets=[held]))
  while not server.started and not serving.done():
    await asyncio.sleep(0.01)
  if server.started:
    host, port = held.getsockname()[:2]
    console.say(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}")
    if host not in _LOOPBACK and not has_key:
      console.say("anyone who reaches this address can use it: see --api_key_env")
  await serving
