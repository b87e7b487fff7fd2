"""The messages of a chat request.

A message is read only if the model sees it, so clients may keep anything in the rest of
the history.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vpo_jax.sample import lm
from vpo_jax.serve import api_errors, limits

# Roles of the OpenAI API and what the chat template calls them.
_ROLES = {
  "system": "system",
  "developer": "system",
  "user": "user",
  "assistant": "assistant",
}
# Fields of an assistant message that the chat template would leave out.
_UNSUPPORTED = ("tool_calls", "function_call", "audio")

Message = Mapping[str, Any]


def query(policy: lm.LanguageModel, messages: Sequence[Message]) -> str:
  """The text of the last user message, the only one that the optimizer reads.

  Raises:
    ApiError: there is no user message, or the last one is not a valid query.
  """
  for number in range(len(messages) - 1, -1, -1):
    if messages[number].get("role") == "user":
      param = f"messages[{number}].content"
      text = _text(messages[number].get("content"), param)
      return limits.check_user_text(policy, text, param)
  message = "the optimizer requires a user message: the query"
  raise api_errors.ApiError(400, message, param="messages")


def turns(
  policy: lm.LanguageModel, messages: Sequence[Message]
) -> list[dict[str, str]]:
  """Role and text of every message, for the chat template.

  Content may be empty; in messages that are not the user's it may also be null.

  Raises:
    ApiError: a message has something else than text.
  """
  return [
    _turn(policy, message, f"messages[{number}]")
    for number, message in enumerate(messages)
  ]


def _turn(policy: lm.LanguageModel, message: Message, param: str) -> dict[str, str]:
  role = message.get("role")
  if not isinstance(role, str) or role not in _ROLES:
    raise _error(f"{param}.role", f"{role!r} is not supported; use {_either(_ROLES)}")
  for name in _UNSUPPORTED:
    if message.get(name):
      raise _error(f"{param}.{name}", "not supported; only text is")
  param = f"{param}.content"
  content = message.get("content")
  if content is None and role != "user":
    content = ""
  text = limits.check_user_text(policy, _text(content, param), param, empty=True)
  return {"role": _ROLES[role], "content": text}


def _text(content: Any, param: str) -> str:
  """The text of a message's content: a string, or text parts, which are joined."""
  if isinstance(content, str):
    return content
  if not isinstance(content, list):
    raise _error(param, "must be a string or a list of text parts")
  return "".join(
    _part(part, f"{param}[{number}]") for number, part in enumerate(content)
  )


def _part(part: Any, param: str) -> str:
  if not isinstance(part, dict) or not isinstance(part.get("type"), str):
    raise _error(param, 'must be an object such as {"type": "text", "text": "a cat"}')
  if part["type"] != "text":
    message = f"a part of type {part['type']!r} is not supported; only 'text' is"
    raise _error(param, message)
  if not isinstance(part.get("text"), str):
    raise _error(f"{param}.text", "must be a string")
  return part["text"]


def _either(names: Mapping[str, str]) -> str:
  *first, last = map(repr, names)
  return f"{', '.join(first)} or {last}"


def _error(param: str, message: str) -> api_errors.ApiError:
  return api_errors.ApiError(
    400, f"{param}: {message}", param=param, code="invalid_value"
  )
