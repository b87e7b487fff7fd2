"""Turns a server's response into a reply or an error; the only place that does.

Replies of single calls and of batches, and error responses, are read here, so that no
reader of a reply (few-shot, critique, refine, alignment, safety) sees reasoning, and a
content filter's error is a refusal whatever its status.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch_bridge import api_errors, chat_reply
from vpo_jax.teacher import journal


def read(
  body: object,
  status: int = 200,
  headers: Mapping[str, Any] | None = None,
  secret: str = "",
) -> journal.Reply:
  """Returns the reply, or the refusal, in a response.

  Args:
    body: parsed JSON, or the bytes of an error response.
    status: of HTTP; 0 for an error without one, such as in a line of a batch.
    headers: of an error response.
    secret: the key, which a server may repeat in an error.

  Raises:
    ServerError: the response is an error, or is not a chat completion. Its message is
      one line without the secret.
  """
  try:
    if status != 200:
      raise api_errors.ServerError(api_errors.read(status, body, headers))
    found = chat_reply.read(body)
  except api_errors.ServerError as failed:
    line = api_errors.one_line(failed.error.message, secret)
    if failed.error.kind is api_errors.Kind.REFUSED:
      return journal.Reply(line, "content_filter", True, 0, 0)
    error = dataclasses.replace(failed.error, message=line)
    raise api_errors.ServerError(error) from failed
  return journal.Reply(
    text=api_errors.one_line(found.text, secret) if found.refusal else found.text,
    finish_reason=found.finish_reason,
    refusal=found.refusal,
    prompt_tokens=found.prompt_tokens,
    completion_tokens=found.completion_tokens,
  )
