"""What a server answered, read from its JSON."""

import typing
from collections.abc import Mapping
from typing import Any

from vpo_jax.teacher import journal

# What OpenAI (content_policy_violation) and Azure (content_filter) answer with 400.
_FILTERED = ("content_filter", "content_policy_violation")


class Garbled(Exception):
  """A reply that is no chat completion."""


def read(body: object) -> journal.Reply:
  """The reply in the JSON of a chat completion.

  Raises:
    Garbled: it is something else; a proxy or a broken server may send anything.
  """
  try:
    return _read(typing.cast(Any, body))
  except (TypeError, KeyError, IndexError, AttributeError, ValueError) as error:
    raise Garbled(str(body)) from error


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


def filtered(error: Mapping[str, Any]) -> journal.Reply:
  """An error object of the server as the refusal that it is.

  Raises:
    Garbled: it is another error.
  """
  says = line(error.get("message"))
  if error.get("code") not in _FILTERED:
    raise Garbled(says)
  return journal.Reply(says, "content_filter", True, 0, 0)


def line(error: object) -> str:
  """An error's text on one line."""
  return " ".join(str(error).split())[:200]
