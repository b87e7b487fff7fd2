"""Asks a model until its reply can be read."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import ml_collections

from vpo_jax.teacher import journal as journal_lib

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Value = TypeVar("Value")

# A refusal in words, for models without a refusal field. Only replies that lack their
# marker are searched.
_REFUSAL = re.compile(
  r"\W*(i['’]m |i am )?(very |so )?sorry\b|\W*i (can(no|['’])t|can not|won['’]t|am"
  r" unable to|am not able to) (assist|help|comply|create|fulfil|provide|generate)",
  re.IGNORECASE,
)


class NoAnswer(Exception):
  """A row got no usable reply; the exception's text is the reason.

  Attributes:
    kind: "refused", "unparsed" (no reply had its marker), "failed", or "flawed" (a
      second critique rejected the refinement).
  """

  def __init__(self, kind: str, reason: str):
    super().__init__(f"{kind}: {reason}")
    self.kind = kind


@runtime_checkable
class Ask(Protocol):
  """Sends messages to the model and reads a value from its reply."""

  async def __call__(
    self,
    messages: Sequence[journal_lib.Message],
    read: Callable[[str], Value | None],
    read_cut: Callable[[str], Value | None] | None = None,
  ) -> tuple[Value, str]:
    """Returns the value that `read` found in a reply, and the reply's text.

    Args:
      messages: the chat so far; the last message is the user's.
      read: parses a reply; None if it lacks what is needed.
      read_cut: parses a reply that was cut off at the token limit; without it such a
        reply is drawn again.

    Raises:
      NoAnswer: no reply was usable; the row has to be set aside.
    """
    ...


def declines(text: str) -> bool:
  """Whether a reply begins with a refusal in words."""
  return bool(_REFUSAL.match(text))


Chain = Callable[[Ask, Item], Awaitable[Outcome]]
Fetch = Callable[[tuple[journal_lib.Message, ...], int], Awaitable[journal_lib.Reply]]


def make_ask(config: ml_collections.ConfigDict, fetch: Fetch) -> Ask:
  """Returns an `Ask` that draws up to `config.samples` replies.

  A reply without its marker, or one cut off at the token limit (unless the caller can
  read it), is drawn again with the next sample index. A refusal is not.

  Args:
    config: the teacher's config (configs/teacher.py).
    fetch: gets the reply to messages for a sample index.
  """

  async def ask(
    messages: Sequence[journal_lib.Message],
    read: Callable[[str], Value | None],
    read_cut: Callable[[str], Value | None] | None = None,
  ) -> tuple[Value, str]:
    cut = 0
    for sample in range(config.samples):
      reply = await fetch(tuple(messages), sample)
      complete = reply.finish_reason != "length"
      reader = read if complete else read_cut
      value = reader(reply.text) if reader and not reply.refusal else None
      if reply.refusal or (value is None and declines(reply.text)):
        text = " ".join(reply.text.split())[:200]
        raise NoAnswer("refused", text or reply.finish_reason)
      if value is not None:
        return value, reply.text
      cut += not complete
    if cut:
      raise NoAnswer(
        "unparsed",
        f"{cut} of {config.samples} replies were cut off at"
        f" config.teacher.max_tokens={config.max_tokens}; raise it if that is too short"
        " for the model's reasoning and its answer",
      )
    raise NoAnswer(
      "unparsed", f"{config.samples} replies lack the marker that the template asks for"
    )

  return ask
