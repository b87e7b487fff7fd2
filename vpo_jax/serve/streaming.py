"""Text as its tokens come."""

from collections.abc import Sequence

from vpo_jax.sample import policy as policies

_HALF = "\ufffd"  # what a decoder writes for bytes of a character that goes on


class Text:
  """Turns a growing list of tokens into pieces of text that are never taken back."""

  def __init__(self, policy: policies.Policy):
    self._policy = policy
    self._tokens: list[int] = []
    self._shown = ""

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
