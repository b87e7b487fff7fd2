"""The texts that are sent to models, as files that a user can replace.

instruction.txt is what the policy sees in training and in use; few_shot.txt,
critique.txt and refine.txt are what the teacher sees, alignment.txt what the judge of
an evaluation does. They follow the rules and the reply markers of the paper's figures 7
and 8, in our own words. critique.txt adds the release's sixth rule (Pika-style flags);
critique_paper.txt has the paper's five.

A placeholder is a word in braces, `{query}`. Filling is one pass over the template, so
that whatever a query holds (braces, quotes, markers, instructions) stays data.
"""

import json
import re
from collections.abc import Sequence
from typing import TypedDict

from etils import epath

from vpo_jax import errors

FOLDER = epath.Path(__file__).parent

# What each template must hold, once each.
PLACEHOLDERS = {
  "instruction": ("query",),
  "few_shot": ("demonstrations", "query"),
  "critique": ("query", "prompt"),
  "critique_paper": ("query", "prompt"),
  "refine": (),
  "alignment": ("query", "prompt"),
  "safety": ("query",),
}

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*|)\}")

# The markers of figures 7 and 8. Judges set them in bold or at the start of a line.
_JUDGEMENT = re.compile(r"Final Judge?ment \(Yes or No\)\s*\**\s*:", re.IGNORECASE)
_VERDICT = re.compile(r"Final Verdict \([^)\n]*\)\s*\**\s*:", re.IGNORECASE)
VERDICTS = ("aligned", "unsafe", "imprecise", "refusal")  # paper, table 2


def _one_of(*words: str) -> re.Pattern[str]:
  """Matches one of the words, but not a list of them, which is the question's echo."""
  any_of = "|".join(words)
  return re.compile(
    rf"[\s*_\"'`\[(]*({any_of})\b(?!\s*(?:,|or|/)\s*(?:{any_of})\b)", re.IGNORECASE
  )


_YES_OR_NO, _ONE_VERDICT = _one_of("yes", "no"), _one_of(*VERDICTS)
_LINE_START = re.compile(r"(?:^|\n)[\s*_#>-]*\Z")
_REFINED = re.compile(r"Final Refined Prompt", re.IGNORECASE)
_MARKED = re.compile(r"\[\[start\]\](.*?)\[\[end\]\]", re.IGNORECASE | re.DOTALL)


class Demonstration(TypedDict):
  query: str
  prompt: str


def load(name: str, path: epath.PathLike = "") -> str:
  """A template's text, exactly as it stands in its file.

  Args:
    name: a key of `PLACEHOLDERS`.
    path: the user's own file, in place of the embedded one.

  Raises:
    UserError: the file cannot be read, or does not hold exactly the placeholders that
      this template needs.
  """
  file = epath.Path(path) if path else FOLDER / f"{name}.txt"
  text = _read(file, f"the {name} template")
  needed = PLACEHOLDERS[name]
  found = _PLACEHOLDER.findall(text)
  for word in needed:
    if found.count(word) != 1:
      raise errors.UserError(
        f"{file}: the {name} template must hold {{{word}}} once, found"
        f" {found.count(word)}"
      )
  for word in found:
    if word not in needed:
      raise errors.UserError(
        f"{file}: the {name} template holds {{{word}}}, which nothing fills; it may"
        f" hold {', '.join(f'{{{w}}}' for w in needed) or 'no placeholder'}"
      )
  return text


def fill(template: str, **fields: str) -> str:
  """Puts each field in its placeholder's place; what it puts in is not read again."""
  return _PLACEHOLDER.sub(lambda found: fields[found[1]], template)


def demonstrations(path: epath.PathLike = "") -> list[Demonstration]:
  """The query and prompt pairs that few-shot generation draws from.

  Raises:
    UserError: the file is not a JSON list of {"query": text, "prompt": text}.
  """
  file = epath.Path(path) if path else FOLDER / "demonstrations.json"
  try:
    rows = json.loads(_read(file, "the demonstrations"))
  except json.JSONDecodeError as error:
    raise errors.UserError(
      f"{file}:{error.lineno}: not valid JSON: {error.msg}"
    ) from error
  if not isinstance(rows, list) or not rows:
    raise errors.UserError(f"{file}: demonstrations must be a JSON list with rows")
  for number, row in enumerate(rows):
    for key in ("query", "prompt"):
      if not isinstance(row, dict) or not str(row.get(key) or "").strip():
        raise errors.UserError(f"{file}: demonstration {number} has no {key!r}")
  return rows


def judgement(reply: str) -> bool | None:
  """The verdict of a critique: True for Yes (well aligned), False for No.

  The verdict is what follows `Final Judgement (Yes or No):`.

  Returns: None when there is no verdict; it is never guessed.
  """
  said = _after(_JUDGEMENT, _YES_OR_NO, reply)
  return None if said is None else said == "yes"


def verdict(reply: str) -> str | None:
  """Which of `VERDICTS` a reply gives to a prompt, after `Final Verdict (…):`.

  Returns: None when there is no verdict; it is never guessed.
  """
  return _after(_VERDICT, _ONE_VERDICT, reply)


def _after(marker: re.Pattern[str], answer: re.Pattern[str], reply: str) -> str | None:
  """The answer behind the marker, in lower case.

  A judge may quote a query that holds the marker itself: a marker that begins its line
  goes before others, and where those left disagree there is no answer.
  """
  answers: dict[bool, list[str | None]] = {True: [], False: []}
  for mark in marker.finditer(reply):
    found = answer.match(reply, mark.end())
    begins = _LINE_START.search(reply, 0, mark.start()) is not None
    answers[begins].append(found[1].lower() if found else None)
  said = set(answers[True] or answers[False])
  return said.pop() if len(said) == 1 else None


def marked(reply: str) -> str | None:
  """The prompt between the first `[[start]]` and `[[end]]`, without outer spaces.

  A refinement's reflection may quote a query that holds such markers, so where the
  reply has the label `Final Refined Prompt` only what follows its last one is read.

  Returns: None when there is no pair, or nothing but spaces or markers inside.
  """
  labels = list(_REFINED.finditer(reply))
  found = _MARKED.search(reply, labels[-1].end() if labels else 0)
  text = found[1].strip() if found else ""
  return None if "[[" in text or not text else text


def show(rows: Sequence[Demonstration]) -> str:
  """Demonstrations as few_shot.txt shows them."""
  return "\n\n".join(
    f'Example {number}, for the query "{row["query"]}":\n{row["prompt"]}'
    for number, row in enumerate(rows, start=1)
  )


def _read(file: epath.Path, what: str) -> str:
  try:
    return file.read_text(encoding="utf-8")
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, "strerror", None) or error
    raise errors.UserError(f"{file}: cannot read {what}: {reason}") from error
