"""What Prometheus is told."""

import time

import prometheus_client
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vpo_jax.serve import engine as engines

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


class Metrics:
  """One server's counters, in a registry of their own."""

  def __init__(self, engine: engines.Engine):
    self._registry = prometheus_client.CollectorRegistry()
    self.requests = prometheus_client.Counter(
      "vpo_requests", "Answered requests.", ["route", "status"], registry=self._registry
    )
    self.seconds = prometheus_client.Histogram(
      "vpo_request_seconds",
      "From a request to the end of its answer.",
      ["route"],
      buckets=_SECONDS,
      registry=self._registry,
    )
    self.first_token = prometheus_client.Histogram(
      "vpo_first_token_seconds",
      "From a prompt to the first tokens of its answer.",
      buckets=_SECONDS,
      registry=self._registry,
    )
    self.tokens = prometheus_client.Counter(
      "vpo_tokens", "Tokens of prompts and new ones.", ["kind"], registry=self._registry
    )
    self.guarded = prometheus_client.Counter(
      "vpo_guard_retries", "Prompts that the guard had redone.", registry=self._registry
    )
    for name, what in (
      ("active", "Candidates in a slot."),
      ("waiting", "Candidates that wait for a slot."),
    ):
      gauge = prometheus_client.Gauge(f"vpo_{name}", what, registry=self._registry)
      gauge.set_function(lambda name=name: getattr(engine, name))

  def text(self) -> bytes:
    return prometheus_client.generate_latest(self._registry)


class Counting:
  """ASGI: counts requests by the route that answered, and times them."""

  def __init__(self, app: ASGIApp, *, metrics: Metrics):
    self._app, self._metrics = app, metrics

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
      return await self._app(scope, receive, send)
    status, began = 499, time.monotonic()  # what nginx calls a client that hung up

    async def watched(message: Message) -> None:
      nonlocal status
      if message["type"] == "http.response.start":
        status = message["status"]
      await send(message)

    try:
      await self._app(scope, receive, watched)
    finally:
      route = getattr(scope.get("route"), "path", "none")
      self._metrics.requests.labels(route, str(status)).inc()
      self._metrics.seconds.labels(route).observe(time.monotonic() - began)
