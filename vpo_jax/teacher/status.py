"""Turns an HTTP error status of the model's server into a reply or an exception."""

import contextlib

import ml_collections
import openai

from vpo_jax import errors
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import journal
from vpo_jax.teacher import reply as reply_lib

# The longest Retry-After that the openai library waits for, in seconds.
_LONGEST_WAIT = 120
# OpenAI's error codes for a parameter, or a value, that the model does not support.
_UNSUPPORTED = ("unsupported_parameter", "unsupported_value")


def reply(
  error: openai.APIStatusError,
  message: str,
  config: ml_collections.ConfigDict,
  base_url: str,
) -> journal.Reply:
  """Returns a content refusal as a reply, and raises for any other error status.

  Args:
    message: the server's message, on one line and without the key.
    config: the teacher's config (configs/teacher.py).
    base_url: the server's address.

  Raises:
    NoAnswer: only this request failed.
    UserError: no request can succeed (key, model, address, quota, parameters).
  """
  server = f"teacher at {base_url}"
  if error.status_code in (401, 403):
    key = f"${config.api_key_env}" if config.api_key_env else "no key"
    raise errors.UserError(
      f"{server} refuses the key ({error.status_code}); it was sent {key}, see"
      " config.teacher.api_key_env"
    ) from error
  if error.status_code == 404:
    raise errors.UserError(
      f"{server} does not know model {config.model!r} or that address (404: {message});"
      " check config.teacher.model and config.teacher.base_url"
    ) from error
  if error.code == "insufficient_quota":
    raise errors.UserError(f"{server}: the quota is used up ({message})") from error
  wait = error.response.headers.get("retry-after", "")
  if error.status_code == 429 and wait.isdigit() and int(wait) > _LONGEST_WAIT:
    raise errors.UserError(
      f"{server} asks to wait {wait} s ({message}); all replies so far are in the"
      " journal, run the same command to continue"
    ) from error
  if error.code in _UNSUPPORTED:
    raise errors.UserError(
      f"{server}: model {config.model!r} rejects a parameter ({message}); see"
      " limit_name, max_tokens and temperature of config.teacher"
    ) from error
  with contextlib.suppress(reply_lib.InvalidReply):
    return reply_lib.from_filter_error({"code": error.code, "message": message})
  raise ask_lib.NoAnswer("failed", f"{error.status_code}: {message}") from error
