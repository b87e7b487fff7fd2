"""The server's ASGI app."""

import contextlib
from collections.abc import AsyncIterator

import fastapi
import prometheus_client
from fastapi import responses

from vpo_jax.serve import api_errors, completions, limits, metrics, optimize_route, page
from vpo_jax.serve import service as services

# The page is self-contained; this policy makes the browser enforce it.
_PAGE_HEADERS = {
  "Content-Security-Policy": (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"
    " img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
  ),
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
}


def make(service: services.Service, *, key: str = "") -> fastapi.FastAPI:
  """Makes the app, which closes the service's engine on shutdown.

  Args:
    service: the model to serve.
    key: bearer token that clients must send; "" requires none.
  """

  @contextlib.asynccontextmanager
  async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
    yield
    service.engine.close()

  app = fastapi.FastAPI(
    title="vpo-jax",
    description="Rewrites queries into prompts for text-to-video models.",
    docs_url=None,  # these pages load assets from other hosts
    redoc_url=None,
    lifespan=lifespan,
  )
  app.add_middleware(limits.Gate, body=service.limits.body, key=key)
  app.add_middleware(metrics.RequestMetrics, metrics=service.metrics)
  api_errors.install(app)
  app.include_router(completions.router(service))
  app.include_router(optimize_route.router(service))
  text = page.html(service)

  @app.get("/", include_in_schema=False)
  async def index() -> responses.HTMLResponse:
    return responses.HTMLResponse(text, headers=_PAGE_HEADERS)

  @app.get("/healthz", responses={503: {"model": api_errors.Body}})
  async def healthz() -> dict[str, str]:
    if service.engine.problem:
      raise api_errors.ApiError(503, service.engine.problem)
    return {"status": "ok"}

  @app.get("/metrics", include_in_schema=False)
  async def read_metrics() -> fastapi.Response:
    kind = prometheus_client.CONTENT_TYPE_LATEST
    return fastapi.Response(service.metrics.text(), media_type=kind)

  return app
