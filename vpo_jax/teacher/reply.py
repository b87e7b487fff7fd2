"""Reads a model's reply from the server's JSON."""

import typing
from collections.abc import Mapping
from typing import Any

from vpo_jax.teacher import journal

# Error codes of a content filter, sent with status 400 by Azure and OpenAI.
_FILTERED = ("content_filter", "content_policy_violation")


class InvalidReply(Exception):
  """A response that is not a chat completion."""


def read(body: object) -> journal.Reply:
  """Returns the reply in the JSON of a chat completion.

  Raises:
    InvalidReply: it is something else; a proxy or a broken server may send anything.
  """
  try:
    return _read(typing.cast(Any, body))
  except (TypeError, KeyError, IndexError, AttributeError, ValueError) as error:
    raise InvalidReply(str(body)) from error


def _read(body: dict[str, Any]) -> journal.Reply:
  choice, usage = body["choices"][0], body.get("usage") or {}
  message, reason = choice["message"], choice.get("finish_reason") or "stop"
  refused = bool(message.get("refusal")) or reason == "content_filter"
  text = message.get("refusal") or message.get("content")
  if not isinstance(text, str) and not refused:
    raise TypeError("no text")
  return journal.Reply(
    text=text or "",
    finish_reason=reason,
    refusal=refused,
    prompt_tokens=int(usage.get("prompt_tokens") or 0),
    completion_tokens=int(usage.get("completion_tokens") or 0),
  )


def from_filter_error(error: Mapping[str, Any]) -> journal.Reply:
  """Returns a content filter's error object as a refusal.

  Raises:
    InvalidReply: it is a different error.
  """
  message = one_line(error.get("message"))
  if error.get("code") not in _FILTERED:
    raise InvalidReply(message)
  return journal.Reply(message, "content_filter", True, 0, 0)


def one_line(error: object) -> str:
  """Returns an error's text on one line, at most 200 characters."""
  return " ".join(str(error).split())[:200]
