"""Language detection by CLD2, whose model is part of the `pycld2` wheel."""

import pycld2

from vpo_jax.curate import rules


def detect(text: str) -> str:
  """Returns the language's code (ISO 639-1 if it has one), "un" if CLD2 is unsure.

  Args:
    text: a query without its flags, at most a few thousand characters.
  """
  try:
    reliable, _, languages = pycld2.detect(text)
  except pycld2.error:
    return rules.UNSURE
  return languages[0][1] if reliable else rules.UNSURE
