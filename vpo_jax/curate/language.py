"""Which language a query is in, by CLD2 (its model ships in the `pycld2` wheel)."""

import pycld2

from vpo_jax.curate import rules


def detect(text: str) -> str:
  """Code of the language (ISO 639-1 where it has one), "un" when CLD2 is not sure.

  Args:
    text: at most a few thousand characters; a query without its flags.
  """
  try:
    sure, _, found = pycld2.detect(text)
  except pycld2.error:
    return rules.UNSURE
  return found[0][1] if sure else rules.UNSURE
