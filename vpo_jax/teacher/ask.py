"""Asking until a reply can be read."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import ml_collections

from vpo_jax.teacher import journal as journal_lib

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Value = TypeVar("Value")

# A refusal in words, of a model that has no field for it. Only looked for in replies
# that lack their marker.
_REFUSAL = re.compile(
  r"\W*(i['’]m |i am )?(very |so )?sorry\b|\W*i (can(no|['’])t|can not|won['’]t|am"
  r" unable to|am not able to) (assist|help|comply|create|fulfil|provide|generate)",
  re.IGNORECASE,
)


class NoAnswer(Exception):
  """A row that got no usable reply; its text is the reason.

  Attributes:
    kind: "refused", "unparsed" (no marker after every try), "failed", or "flawed"
      (a refinement that a second critique rejects).
  """

  def __init__(self, kind: str, reason: str):
    super().__init__(f"{kind}: {reason}")
    self.kind = kind


class Ask(Protocol):
  """Asks until `read` finds what it needs in a reply.

  Returns: what `read` found, and the reply's text.
  Raises: NoAnswer when the row has to be set aside.
  """

  async def __call__(
    self,
    messages: Sequence[journal_lib.Message],
    read: Callable[[str], Value | None],
  ) -> tuple[Value, str]: ...


Chain = Callable[[Ask, Item], Awaitable[Outcome]]
Fetch = Callable[[tuple[journal_lib.Message, ...], int], Awaitable[journal_lib.Reply]]


def asking(config: ml_collections.ConfigDict, fetch: Fetch) -> Ask:
  """An `Ask` that draws up to `config.samples` replies.

  A reply without its marker, or one cut at the token limit, is drawn again with the
  next sample index; a refusal is not.

  Args:
    fetch: the reply to messages, by sample index.
  """

  async def ask(
    messages: Sequence[journal_lib.Message], read: Callable[[str], Value | None]
  ) -> tuple[Value, str]:
    for sample in range(config.samples):
      reply = await fetch(tuple(messages), sample)
      value = read(reply.text) if reply.finish_reason != "length" else None
      if reply.refusal or (value is None and _REFUSAL.match(reply.text)):
        raise NoAnswer("refused", " ".join(reply.text.split())[:200])
      if value is not None:
        return value, reply.text
    raise NoAnswer(
      "unparsed", f"{config.samples} replies lack the marker that the template asks for"
    )

  return ask
