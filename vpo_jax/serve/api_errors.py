"""Errors in the format of the OpenAI API."""

from collections.abc import Mapping, Sequence
from typing import Any

import fastapi
import pydantic
from fastapi import exceptions, responses
from starlette import exceptions as starlette_exceptions

from vpo_jax import errors
from vpo_jax.serve import engine

# Plain words for the types of pydantic's errors that name Python's types.
_PLAIN = {
  "bool_type": "must be true or false",
  "dict_type": "must be an object",
  "float_type": "must be a number",
  "int_type": "must be an integer",
  "list_type": "must be a list",
  "missing": "is required",
  "model_attributes_type": "must be an object",
  "model_type": "must be an object",
  "string_type": "must be a string",
}


class Error(pydantic.BaseModel):
  message: str
  type: str
  param: str | None = None
  code: str | None = None


class Body(pydantic.BaseModel):
  """The body of every error response."""

  error: Error


class ApiError(Exception):
  """An error response.

  Attributes:
    status: the HTTP status.
    headers: of the response.
    body: of the response.
  """

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
    # A message may quote the request: lone surrogates cannot be encoded as UTF-8.
    message = message.encode("utf-8", "replace").decode()
    self.body = Body(error=Error(message=message, type=kind, param=param, code=code))

  def response(self) -> responses.JSONResponse:
    return responses.JSONResponse(
      self.body.model_dump(), self.status, headers=self.headers
    )


def from_exception(error: BaseException) -> ApiError:
  """The error response for any exception."""
  if isinstance(error, ApiError):
    return error
  if isinstance(error, exceptions.RequestValidationError):
    return _invalid(error)
  if isinstance(error, starlette_exceptions.HTTPException):
    return ApiError(error.status_code, str(error.detail), headers=error.headers)
  if isinstance(error, errors.UserError):
    return ApiError(400, str(error))
  if isinstance(error, engine.QueueFull):
    after = {"Retry-After": str(error.seconds)}
    return ApiError(429, str(error), code="queue_full", headers=after)
  if isinstance(error, engine.EngineStopped):
    return ApiError(503, str(error))
  return ApiError(500, "internal server error; see the server's log")


def _invalid(error: exceptions.RequestValidationError) -> ApiError:
  first = error.errors()[0]
  path = first["loc"][1:]
  if first["type"] == "json_invalid":
    return ApiError(400, f"the body is not JSON: {first['ctx']['error']}")
  if not path and isinstance(first["input"], bytes):
    return ApiError(400, "the body must be declared as Content-Type: application/json")
  if not path:
    return ApiError(400, "the body must be a JSON object")
  param = _name(path, error.body)
  message = _PLAIN.get(first["type"], first["msg"])
  return ApiError(400, f"{param}: {message}", param=param, code=first["type"])


def _name(path: Sequence[str | int], body: Any) -> str:
  """The name of a field as the OpenAI API writes it, such as `messages[0].content`.

  Pydantic's path also has the branches of unions, which are not in the body.
  """
  name, value = "", body
  for number, part in enumerate(path):
    if isinstance(part, int):
      name += f"[{part}]"
      value = value[part] if isinstance(value, list) and part < len(value) else None
    elif isinstance(value, dict) and (part in value or number == len(path) - 1):
      name += f".{part}" if name else part
      value = value.get(part)
  return name


def _name_path(
  error: starlette_exceptions.HTTPException, request: fastapi.Request
) -> ApiError:
  path = request.url.path
  message = f"{error.detail}: {request.method} {path}"
  if error.status_code == 404 and not path.startswith("/v1/"):
    message += "; the OpenAI API is under /v1"
  return ApiError(error.status_code, message, headers=error.headers)


def install(app: fastapi.FastAPI) -> None:
  """Makes the app answer every exception in this format."""

  async def answer(
    request: fastapi.Request, error: Exception
  ) -> responses.JSONResponse:
    if isinstance(error, starlette_exceptions.HTTPException):
      error = _name_path(error, request)
    return from_exception(error).response()

  for kind in (
    ApiError,
    exceptions.RequestValidationError,
    starlette_exceptions.HTTPException,
    errors.UserError,
    engine.QueueFull,
    engine.EngineStopped,
    Exception,
  ):
    app.add_exception_handler(kind, answer)


# Error responses of every route, for the OpenAPI schema.
RESPONSES: dict[int | str, dict[str, Any]] = {
  "4XX": {"model": Body, "description": "The request is invalid or not allowed."},
  "5XX": {"model": Body, "description": "The server cannot answer."},
}
