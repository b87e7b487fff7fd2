"""Runs the HTTP server; on SIGTERM it finishes running requests."""

import asyncio
import os
import signal
import socket

import uvicorn

from vpo_jax import errors
from vpo_jax.predict import predictor as predictors
from vpo_jax.promises import targets as targets_lib
from vpo_jax.runtime import console
from vpo_jax.sample import lm
from vpo_jax.serve import engine as engines
from vpo_jax.serve import judge as judges
from vpo_jax.serve import limits as limits_lib
from vpo_jax.serve import metrics, service, web

_SHUTDOWN_SECONDS = 600  # limit for running requests: a client may have stopped reading
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def read_api_key(name: str) -> str:
  """The value of environment variable `name`; "" if `name` is empty.

  Raises:
    UserError: the variable is not set or empty.
  """
  if name and not os.environ.get(name):
    raise errors.UserError(f"${name} contains no API key: export {name}=...")
  return os.environ[name] if name else ""


def bind(host: str, port: int) -> socket.socket:
  """Reserves the address before the model loads; the socket does not listen yet.

  Raises:
    UserError: the address is not available.
  """
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  sock = socket.socket(family, socket.SOCK_STREAM)
  sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    sock.bind((host, port))
  except (OSError, OverflowError) as error:
    sock.close()
    reason = getattr(error, "strerror", None) or error
    raise errors.UserError(f"--host={host} --port={port}: {reason}") from error
  return sock


def serve(
  sock: socket.socket,
  policy: lm.LanguageModel,
  *,
  slots: int,
  queue_size: int,
  limits: limits_lib.Limits,
  guard_language: str,
  aliases: tuple[str, ...] = (),
  key: str = "",
  predictor: predictors.Predictor | None = None,
  targets: tuple[targets_lib.Target, ...] = (),
  judge: judges.Judge | None = None,
  shutdown_seconds: int = _SHUTDOWN_SECONDS,
) -> None:
  """Serves until SIGTERM or SIGINT, then finishes running requests.

  Args:
    sock: from `bind`.
    slots: candidates decoded at once.
    queue_size: candidates that may wait for a slot.
    limits: what a request may ask for.
    guard_language: see `service.Service`.
    aliases: see `service.Service`.
    key: see `web.make`.
    predictor: see `service.Service`.
    targets: see `service.Service`.
    judge: see `service.Service`.
    shutdown_seconds: requests that run longer after the signal are cut off.
  """
  engine = engines.Engine(policy, slots=slots, queue_size=queue_size)
  shared = service.Service(
    policy,
    engine,
    limits,
    metrics.Metrics(engine),
    guard_language,
    aliases,
    predictor,
    targets,
    judge,
  )
  config = uvicorn.Config(
    web.make(shared, key=key),
    log_level="warning",
    access_log=False,
    server_header=False,
    timeout_graceful_shutdown=shutdown_seconds,
  )
  server = uvicorn.Server(config)
  # uvicorn raises the signal again after shutdown; this handler ignores it then.
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, server.handle_exit)
  asyncio.run(_run(server, sock, bool(key)))
  cut_off = shared.metrics.unanswered
  were = "1 request was" if cut_off == 1 else f"{cut_off or 'all'} requests were"
  console.say(f"stopped: {were} {'not ' if cut_off else ''}answered")


async def _run(server: uvicorn.Server, sock: socket.socket, has_key: bool) -> None:
  serving = asyncio.create_task(server.serve(sockets=[sock]))
  while not server.started and not serving.done():
    await asyncio.sleep(0.01)
  if server.started:
    host, port = sock.getsockname()[:2]
    console.say(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}")
    if host not in _LOOPBACK and not has_key:
      console.say("warning: no API key is required; see --api_key_env")
  await serving
