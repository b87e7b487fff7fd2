"""Turns an error of the model's server into an exception."""

import ml_collections

from torch_bridge import api_errors
from vpo_jax import errors
from vpo_jax.teacher import ask as ask_lib


def reason(error: api_errors.Error) -> str:
  """Returns the server's words, after the status if the error has one."""
  return f"{error.status}: {error.message}" if error.status >= 400 else error.message


def exception(
  error: api_errors.Error, config: ml_collections.ConfigDict, address: str
) -> errors.UserError | ask_lib.NoAnswer:
  """Returns what to raise for an error that is not retried.

  Args:
    error: its message is one line without the key.
    config: the teacher's config (configs/teacher.py).
    address: the server's.

  Returns: NoAnswer if only this request failed; UserError if every request would fail
    (key, payment, model, address, parameters), or if the server asks to wait for long.
  """
  server = f"teacher at {address}"
  match error.kind:
    case api_errors.Kind.KEY:
      key = f"${config.api_key_env}" if config.api_key_env else "no key"
      return errors.UserError(
        f"{server} refuses the key ({error.status}): {error.message}; it was sent"
        f" {key}, see config.teacher.api_key_env"
      )
    case api_errors.Kind.BILLING:
      return errors.UserError(
        f"{server}: the quota is used up, or the account has no credit"
        f" ({reason(error)}); all replies so far are in the journal"
      )
    case api_errors.Kind.MODEL:
      return errors.UserError(
        f"{server} does not know model {config.model!r} or that address"
        f" ({reason(error)}); check config.teacher.model and config.teacher.base_url"
      )
    case api_errors.Kind.PARAMETER:
      return errors.UserError(
        f"{server}: model {config.model!r} rejects a parameter ({reason(error)}); see"
        " limit_name, max_tokens and temperature of config.teacher"
      )
  if error.wait_s > api_errors.LONGEST_WAIT_S:
    return errors.UserError(
      f"{server} asks to wait {error.wait_s:.0f} s ({reason(error)}); all replies so"
      " far are in the journal, run the same command to continue"
    )
  return ask_lib.NoAnswer("failed", reason(error))
