"""Text as its tokens come."""

from collections.abc import Sequence

from vpo_jax.sample import lm

_HALF = "\ufffd"  # what a decoder writes for bytes of a character that goes on


class Text:
  """Turns a growing list of tokens into pieces of text that are never taken back."""

  def __init__(self, policy: lm.LanguageModel):
    self._policy = policy
    self._tokens: list[int] = []
    self._shown = ""

  @property
  def count(self) -> int:
    """Tokens so far."""
    return len(self._tokens)

  def add(self, tokens: Sequence[int], last: bool = False) -> str:
    """The text that became certain with these tokens.

    All pieces together are `policy.decode` of all tokens: outer spaces are left out,
    so spaces at the end wait for what follows them, as does half a character.
    """
    self._tokens += tokens
    text = self._policy.decode(self._tokens)
    if not last:
      text = text.rstrip(_HALF).rstrip()
    piece = text[len(self._shown) :]
    self._shown = text
    return piece


class Stopping(Text):
  """A text that ends before the first of some stop texts.

  Attributes:
    stopped: a stop text was met.
  """

  def __init__(self, policy: lm.LanguageModel, stops: Sequence[str]):
    super().__init__(policy)
    self.stopped = False
    self._stops = stops
    self._held = ""  # certain, but perhaps the beginning of a stop text

  def add(self, tokens: Sequence[int], last: bool = False) -> str:
    """As `Text.add`; what may be the beginning of a stop text waits."""
    text = self._held + super().add(tokens, last)
    found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
    if found:
      self.stopped = True
      return text[: min(found)]
    held = 0 if last else max((_overlap(text, stop) for stop in self._stops), default=0)
    self._held = text[len(text) - held :]
    return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
  """How many characters at the end of `text` begin `stop`."""
  sizes = range(min(len(text), len(stop) - 1), 0, -1)
  return next((n for n in sizes if text.endswith(stop[:n])), 0)
