"""Prometheus metrics."""

import asyncio
import time

import prometheus_client
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vpo_jax.serve import engine as engines

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


class Metrics:
  """The metrics of one server.

  Attributes:
    unanswered: requests that the end of the server cut off.
  """

  def __init__(self, engine: engines.Engine):
    self.unanswered = 0
    self._registry = prometheus_client.CollectorRegistry()
    self.requests = prometheus_client.Counter(
      "vpo_requests", "Requests answered.", ["route", "status"], registry=self._registry
    )
    self.seconds = prometheus_client.Histogram(
      "vpo_request_seconds",
      "Time from a request to the end of its response.",
      ["route"],
      buckets=_SECONDS,
      registry=self._registry,
    )
    self.first_token = prometheus_client.Histogram(
      "vpo_first_token_seconds",
      "Time from a prompt to its first new tokens.",
      buckets=_SECONDS,
      registry=self._registry,
    )
    self.tokens = prometheus_client.Counter(
      "vpo_tokens", "Prompt tokens and new tokens.", ["kind"], registry=self._registry
    )
    self.guarded = prometheus_client.Counter(
      "vpo_guard_retries", "Prompts that the guard rejected.", registry=self._registry
    )
    for name, description in (
      ("active", "Candidates in a slot."),
      ("waiting", "Candidates waiting for a slot."),
    ):
      gauge = prometheus_client.Gauge(
        f"vpo_{name}", description, registry=self._registry
      )
      gauge.set_function(lambda name=name: getattr(engine, name))

  def text(self) -> bytes:
    """All metrics in Prometheus' text format."""
    return prometheus_client.generate_latest(self._registry)


class RequestMetrics:
  """ASGI middleware that counts and times requests by route."""

  def __init__(self, app: ASGIApp, *, metrics: Metrics):
    self._app, self._metrics = app, metrics

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
      return await self._app(scope, receive, send)
    status, start = 499, time.monotonic()  # nginx's status for a client disconnect
    sent = False

    async def send_and_record(message: Message) -> None:
      nonlocal status, sent
      if message["type"] == "http.response.start":
        status = message["status"]
      await send(message)
      sent = message["type"] == "http.response.body" and not message.get("more_body")

    try:
      await self._app(scope, receive, send_and_record)
    except asyncio.CancelledError:  # only the end of the server cancels a request
      self._metrics.unanswered += not sent
      raise
    finally:
      route = getattr(scope.get("route"), "path", "none")
      self._metrics.requests.labels(route, str(status)).inc()
      self._metrics.seconds.labels(route).observe(time.monotonic() - start)
