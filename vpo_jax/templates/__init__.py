"""Prompt templates as files that a user can replace, and readers for the replies.

The policy gets instruction.txt, in training and in use. The teacher gets few_shot.txt,
critique.txt and refine.txt, the judge of an evaluation alignment.txt, and the judges of
queries safety.txt and difficulty.txt. They follow the rules and the reply markers of
the paper's figures 7 and 8, in our own words. rules.txt has the rules by which
critique.txt and alignment.txt judge: the paper's five, and the release's sixth
(Pika-style flags).

A placeholder is a word in braces, `{query}`. Templates are filled in one pass, so that
the contents of a query (braces, quotes, markers, instructions) stay data. instruction
and few_shot may also contain {notes}, a paragraph about the video model that the prompt
is for (`vpo_jax.promises.targets`); without a target it is empty.
"""

import re
from collections.abc import Sequence
from typing import TypedDict

from etils import epath

from vpo_jax import errors, json_input

FOLDER = epath.Path(__file__).parent

# The file with the instruction in a model's directory, and beside rows made with one.
INSTRUCTION = "instruction.txt"

# The placeholders of each template. Each must occur once.
PLACEHOLDERS = {
  "instruction": ("query",),
  "few_shot": ("demonstrations", "query"),
  "critique": ("query", "prompt"),
  "refine": (),
  "alignment": ("query", "prompt"),
  "safety": ("query",),
  "difficulty": ("query",),
}

# The placeholders that a template may contain, at most once.
OPTIONAL = {
  "instruction": ("notes",),
  "few_shot": ("notes",),
  "critique": ("rules",),
  "alignment": ("rules",),
}
RULES = (6, 5)  # release; paper, figure 8

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*|)\}")

# The markers of figures 7 and 8. Judges may set them in bold.
_JUDGEMENT = re.compile(r"Final Judge?ment \(Yes or No\)\s*\**\s*:", re.IGNORECASE)
_VERDICT = re.compile(r"Final Verdict \([^)\n]*\)\s*\**\s*:", re.IGNORECASE)
VERDICTS = ("aligned", "unsafe", "imprecise", "refusal")  # paper, table 2


def _one_of(*words: str) -> re.Pattern[str]:
  """Matches one of the words, but not a list of them, which repeats the question."""
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


def load(name: str, path: epath.PathLike = "", rules: int = RULES[0]) -> str:
  """Returns a template's text, as in its file but with {rules} filled in.

  Args:
    name: a key of `PLACEHOLDERS`.
    path: the user's own file; "" is the file of this package.
    rules: how many rules of rules.txt the judge applies; one of `RULES`.

  Raises:
    UserError: the file cannot be read, or its placeholders are not those of the
      template.
  """
  file = epath.Path(path) if path else FOLDER / f"{name}.txt"
  text = _read(file, f"the {name} template")
  needed = PLACEHOLDERS[name]
  found = _PLACEHOLDER.findall(text)
  for word in needed:
    if found.count(word) != 1:
      raise errors.UserError(
        f"{file}: the {name} template must contain {{{word}}} once, found"
        f" {found.count(word)}"
      )
  allowed = (*needed, *OPTIONAL.get(name, ()))
  for word in found:
    if word not in allowed:
      raise errors.UserError(
        f"{file}: the {name} template has an unknown placeholder {{{word}}}; allowed:"
        f" {', '.join(f'{{{w}}}' for w in allowed) or 'none'}"
      )
  for word in OPTIONAL.get(name, ()):
    if found.count(word) > 1:
      raise errors.UserError(f"{file}: the {name} template contains {{{word}}} twice")
  return text.replace("{rules}", _rules(rules)) if "rules" in found else text


def of_model(folder: epath.PathLike, path: epath.PathLike = "", notes: str = "") -> str:
  """Returns the instruction that a model expects.

  Args:
    folder: the model's directory. Training stores its rows' instruction there.
    path: the user's own file; "" is the model's own, or else the file of this package.
    notes: of the only target; "" leaves {notes} as it is.

  Raises:
    UserError: as in `load` and `with_notes`.
  """
  own = epath.Path(folder) / INSTRUCTION
  text = load("instruction", path or (own if own.exists() else ""))
  return with_notes(text, notes) if notes else text


def is_filled(template: str, text: str) -> bool:
  """Whether `text` is the instruction `template` with some query, and any notes."""
  parts = _PLACEHOLDER.split(template)[::2]
  return bool(re.fullmatch("(?s:.*)".join(map(re.escape, parts)), text))


def _rules(count: int) -> str:
  """The first rules of rules.txt, one per line."""
  if count not in RULES:
    raise errors.UserError(
      f"config.critique_rules={count}: must be 6 (release) or 5 (paper)"
    )
  lines = _read(FOLDER / "rules.txt", "the rules").splitlines()
  return "\n".join(lines[:count])


def fill(template: str, *, notes: str = "", **fields: str) -> str:
  """Replaces each placeholder by its field; placeholders in the fields are kept.

  Args:
    notes: of a target; they become a paragraph of their own.
  """
  fields["notes"] = f"\n\n{notes}" if notes else ""
  return _PLACEHOLDER.sub(lambda found: fields[found[1]], template)


def with_notes(instruction: str, notes: str) -> str:
  """The instruction for one target alone: with its notes in place of {notes}.

  Raises:
    UserError: the instruction has no place for the notes.
  """
  if notes and "{notes}" not in instruction:
    raise errors.UserError(
      "the target has notes, and the instruction has no placeholder {notes} for them"
    )
  return instruction.replace("{notes}", f"\n\n{notes}" if notes else "")


def demonstrations(path: epath.PathLike = "") -> list[Demonstration]:
  """Returns the query and prompt pairs that few-shot generation samples from.

  Args:
    path: the user's own file; "" is the file of this package.

  Raises:
    UserError: the file is not a JSON list of {"query": text, "prompt": text}.
  """
  file = epath.Path(path) if path else FOLDER / "demonstrations.json"
  rows = json_input.value(file)
  if json_input.repair(rows) != rows:
    raise errors.UserError(f"{file}: a string has half of a surrogate pair")
  if not isinstance(rows, list) or not rows:
    raise errors.UserError(f"{file}: demonstrations must be a nonempty JSON list")
  for number, row in enumerate(rows):
    for key in ("query", "prompt"):
      if not isinstance(row, dict) or not str(row.get(key) or "").strip():
        raise errors.UserError(f"{file}: demonstration {number} has no {key!r}")
  return rows


def judgement(reply: str) -> bool | None:
  """Reads the answer after `Final Judgement (Yes or No):`.

  Returns: True for Yes, False for No, and None if there is no clear answer.
  """
  answer = _after(_JUDGEMENT, _YES_OR_NO, reply)
  return None if answer is None else answer == "yes"


def verdict(reply: str) -> str | None:
  """Reads the answer after `Final Verdict (…):`.

  Returns: one of `VERDICTS`, or None if there is no clear answer.
  """
  return _after(_VERDICT, _ONE_VERDICT, reply)


def _after(marker: re.Pattern[str], answer: re.Pattern[str], reply: str) -> str | None:
  """Returns the answer that follows the marker, in lower case, or None.

  A judge may quote a query that contains the marker. So markers at the start of a line
  take precedence, and there is no answer if the answers of those disagree.
  """
  at_line_start: list[str | None] = []
  elsewhere: list[str | None] = []
  for match in marker.finditer(reply):
    found = answer.match(reply, match.end())
    starts_line = _LINE_START.search(reply, 0, match.start())
    answers = at_line_start if starts_line else elsewhere
    answers.append(found[1].lower() if found else None)
  distinct = set(at_line_start or elsewhere)
  return distinct.pop() if len(distinct) == 1 else None


def marked_text(reply: str) -> str | None:
  """Reads the text between the first `[[start]]` and `[[end]]`, stripped.

  A refinement's reflection may quote a query that contains these markers. So if the
  reply has the label `Final Refined Prompt`, only the text after its last occurrence is
  read.

  Returns: None if there is no pair of markers, or no text or another marker inside.
  """
  labels = list(_REFINED.finditer(reply))
  found = _MARKED.search(reply, labels[-1].end() if labels else 0)
  text = found[1].strip() if found else ""
  return None if "[[" in text or not text else text


def format_demonstrations(rows: Sequence[Demonstration]) -> str:
  """Formats demonstrations for few_shot.txt."""
  return "\n\n".join(
    f'Example {number}, for the query "{row["query"]}":\n{row["prompt"]}'
    for number, row in enumerate(rows, start=1)
  )


def _read(file: epath.Path, content: str) -> str:
  try:
    return file.read_text(encoding="utf-8-sig")
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, "strerror", None) or error
    raise errors.UserError(f"{file}: cannot read {content}: {reason}") from error
