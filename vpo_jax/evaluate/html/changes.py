"""The words of a query that a prompt keeps, and those that it adds and drops."""

import difflib
import itertools
import re

KEPT, ADDED, DROPPED = "=", "+", "-"

# Chinese and Japanese have no spaces, so that each character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


def between(query: str, prompt: str) -> list[str]:
  """The prompt in parts, with what it drops of the query at its place.

  Words are compared without regard to case; punctuation belongs to the word before it.

  Returns: parts whose first character is `KEPT`, `ADDED` or `DROPPED`. The rest of the
    kept and added parts, joined, is the prompt.
  """
  ours, theirs = _words(query), _words(prompt)
  found: list[str] = []
  matcher = difflib.SequenceMatcher(
    None, [_key(word) for word in ours], [_key(word) for word in theirs], autojunk=False
  )
  for kind, a, b, c, d in matcher.get_opcodes():
    if kind == "equal":
      found.append(KEPT + "".join(theirs[c:d]))
      continue
    if b > a:
      found.append(DROPPED + "".join(ours[a:b]).strip())
    if d > c:
      found.append(ADDED + "".join(theirs[c:d]))
  return found


def _words(text: str) -> list[str]:
  """The text cut before each word, except the first."""
  starts = [match.start() for match in _WORD.finditer(text)][1:]
  cuts = [0, *starts, len(text)]
  return [text[a:b] for a, b in itertools.pairwise(cuts) if a < b]


def _key(word: str) -> str:
  found = _WORD.search(word)
  return found.group().casefold() if found else word.strip()
