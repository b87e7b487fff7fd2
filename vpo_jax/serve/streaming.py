"""Decodes tokens to text incrementally."""

from collections.abc import Sequence

from vpo_jax.sample import lm

_INCOMPLETE = "\ufffd"  # decoders write it for the first bytes of a character


class Text:
  """Decodes a growing list of tokens into pieces of text that never change again."""

  def __init__(self, policy: lm.LanguageModel):
    self._policy = policy
    self._tokens: list[int] = []
    self._emitted = ""

  @property
  def count(self) -> int:
    """Number of tokens so far."""
    return len(self._tokens)

  def add(self, tokens: Sequence[int], last: bool = False) -> str:
    """Appends tokens and returns the text that is now final.

    The pieces add up to `policy.decode` of all tokens, which strips outer spaces;
    trailing spaces and incomplete characters are therefore held back.
    """
    self._tokens += tokens
    text = self._policy.decode(self._tokens)
    if not last:
      text = text.rstrip(_INCOMPLETE).rstrip()
    piece = text[len(self._emitted) :]
    self._emitted = text
    return piece


class StoppingText(Text):
  """A text that ends before the first occurrence of a stop text.

  Attributes:
    stopped: whether a stop text occurred.
  """

  def __init__(self, policy: lm.LanguageModel, stops: Sequence[str]):
    super().__init__(policy)
    self.stopped = False
    self._stops = stops
    self._pending = ""  # may be the beginning of a stop text

  def add(self, tokens: Sequence[int], last: bool = False) -> str:
    """As `Text.add`; holds back text that may be the beginning of a stop text."""
    text = self._pending + super().add(tokens, last)
    found = [start for stop in self._stops if (start := text.find(stop)) >= 0]
    if found:
      self.stopped = True
      return text[: min(found)]
    size = 0 if last else max((_overlap(text, stop) for stop in self._stops), default=0)
    self._pending = text[len(text) - size :]
    return text[: len(text) - size]


def _overlap(text: str, stop: str) -> int:
  """Length of the longest suffix of `text` that is a proper prefix of `stop`."""
  sizes = range(min(len(text), len(stop) - 1), 0, -1)
  return next((n for n in sizes if text.endswith(stop[:n])), 0)
