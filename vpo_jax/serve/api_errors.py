"""Errors as clients of the OpenAI API read them."""

from collections.abc import Mapping
from typing import Any

import fastapi
import pydantic
from fastapi import exceptions, responses
from starlette import exceptions as starlette_exceptions

from vpo_jax import errors
from vpo_jax.serve import engine


class Error(pydantic.BaseModel):
  message: str
  type: str
  param: str | None = None
  code: str | None = None


class Body(pydantic.BaseModel):
  """Every answer that is not a success."""

  error: Error


class Refusal(Exception):
  """A request that is not served, and why."""

  def __init__(
    self,
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
  ):
    super().__init__(message)
    self.status = status
    self.headers = headers
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
      kind = "rate_limit_error"
    # A message may quote what the client sent: half a surrogate pair is no UTF-8.
    message = message.encode("utf-8", "replace").decode()
    self.body = Body(error=Error(message=message, type=kind, param=param, code=code))

  def response(self) -> responses.JSONResponse:
    return responses.JSONResponse(
      self.body.model_dump(), self.status, headers=self.headers
    )


def of(error: BaseException) -> Refusal:
  """The refusal that an exception amounts to."""
  if isinstance(error, Refusal):
    return error
  if isinstance(error, exceptions.RequestValidationError):
    return _invalid(error)
  if isinstance(error, starlette_exceptions.HTTPException):
    return Refusal(error.status_code, str(error.detail), headers=error.headers)
  if isinstance(error, errors.UserError):
    return Refusal(400, str(error))
  if isinstance(error, engine.Full):
    after = {"Retry-After": str(error.seconds)}
    return Refusal(429, str(error), code="queue_full", headers=after)
  if isinstance(error, engine.Stopped):
    return Refusal(503, str(error))
  return Refusal(500, "a defect of the server; its log says more")


def _invalid(error: exceptions.RequestValidationError) -> Refusal:
  first = error.errors()[0]
  if first["type"] == "json_invalid":
    return Refusal(400, f"the body is not JSON: {first['ctx']['error']}")
  # ("body", "messages", 0, "content", "str") names the union's branch at the end.
  param = ".".join(str(part) for part in first["loc"][1:]) or None
  message = first["msg"] if param is None else f"{param}: {first['msg']}"
  return Refusal(400, message, param=param, code=first["type"])


def handle(app: fastapi.FastAPI) -> None:
  """Has the app answer every exception in this form."""

  async def answer(_: fastapi.Request, error: Exception) -> responses.JSONResponse:
    return of(error).response()

  for kind in (
    Refusal,
    exceptions.RequestValidationError,
    starlette_exceptions.HTTPException,
    errors.UserError,
    engine.Full,
    engine.Stopped,
    Exception,
  ):
    app.add_exception_handler(kind, answer)


# For the schema: what any route may answer.
DECLARED: dict[int | str, dict[str, Any]] = {
  "4XX": {"model": Body, "description": "The request is refused; why is said."},
  "5XX": {"model": Body, "description": "The server cannot answer now."},
}
