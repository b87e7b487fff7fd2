"""What a prompt must keep: its query's protected spans, and its target's limit."""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Literal

from vpo_jax.promises import spans as spans_lib
from vpo_jax.promises import targets

Budget = Literal["", "kept", "shortened", "exceeded"]

_WORDS_PER_TOKEN = 0.6  # of English text and T5's tokenizer, with some room
# Where a prompt is shortened: after a sentence, else after a clause, else after a word.
_ENDS = (
  re.compile(r"(?<=[.!?。！？])[\"”'’)]?\s+|(?<=[。！？])|\n+"),
  re.compile(r"(?<=[,;:，；：])\s*"),
  re.compile(r"\s+"),
)
_CUT = ",;:，；： \t\n"


@dataclasses.dataclass(frozen=True)
class Kept:
  """A prompt with its spans inserted, shortened to its target's limit.

  Attributes:
    prompt: the prompt.
    spans: each protected span: "kept" if the model wrote it, "repaired" if it was
      inserted, "lost" if the prompt was left as it was because of another problem.
    tokens: the target's tokens of the prompt; None without a target.
    budget: "kept" if the model's prompt fits the target, "shortened" if it was cut,
      "exceeded" if it does not fit; "" without a target.
    problem: why the prompt is unusable, as the end of "the prompt ..."; or None.
  """

  prompt: str
  spans: dict[str, str] = dataclasses.field(default_factory=dict)
  tokens: int | None = None
  budget: Budget = ""
  problem: str | None = None


@dataclasses.dataclass(frozen=True)
class Promises:
  """What the prompts of one query must keep.

  Attributes:
    spans: texts that they must contain unchanged.
    target: the video model that must be able to read all of them; None for any.
    enforced: whether prompts are checked; if not, only the target's notes are used.
  """

  spans: tuple[spans_lib.Span, ...] = ()
  target: targets.Target | None = None
  enforced: bool = True

  @property
  def notes(self) -> str:
    """The target's, for the instruction."""
    return self.target.profile.notes if self.target else ""

  def broken(self, prompt: str) -> str | None:
    """What the prompt does not keep, as the end of "the prompt ..."; or None."""
    lost = spans_lib.missing(prompt, self.spans)
    return spans_lib.problem(lost) or self._too_long(prompt)

  def ask(self, query: str, prompts: Sequence[str]) -> str:
    """The query of an attempt, with what must be kept pointed out where necessary.

    Args:
      prompts: what earlier attempts gave. If there are any, or the query lacks a listed
        word, the spans are pointed out; if one exceeds the limit, it is named too.
    """
    target = self.target
    if self.spans and (prompts or spans_lib.missing(query, self.spans)):
      query = spans_lib.ask(query, self.spans)
    if target and not all(target.reads(prompt) for prompt in prompts):
      words = max(1, int(target.profile.tokens * _WORDS_PER_TOKEN))
      query += f" (the prompt must have at most {words} words)"
    return query

  def keep(self, prompt: str, problem: str | None) -> Kept:
    """Inserts the spans that a prompt lacks, and shortens it to the target's limit.

    Args:
      problem: the guard's; a prompt that has one is returned as it is.
    """
    target = self.target
    lost = spans_lib.missing(prompt, self.spans)
    outcome = "lost" if problem else "repaired"
    found = {span.text: outcome if span in lost else "kept" for span in self.spans}
    if lost and not problem:
      prompt = spans_lib.insert(prompt, lost)
    if target is None:
      return Kept(prompt, found, problem=problem)
    budget: Budget = "kept" if target.reads(prompt) else "exceeded"
    if budget == "exceeded" and self.enforced and not problem:
      shorter = shorten(prompt, target, self.spans)
      if shorter:
        prompt, budget = shorter, "shortened"
      else:
        problem = self._too_long(prompt)
    return Kept(prompt, found, target.count(prompt), budget, problem)

  def _too_long(self, prompt: str) -> str | None:
    target = self.target
    if target is None or not self.enforced or target.reads(prompt):
      return None
    return (
      f"has {target.count(prompt)} tokens, of which {target.name} reads"
      f" {target.profile.tokens}"
    )


def of_query(
  query: str, keep: Sequence[str] = (), target: targets.Target | None = None
) -> Promises:
  """What the prompts of a query must keep.

  Args:
    keep: words that they must contain, beside the query's protected spans.
    target: the video model that they are for.
  """
  return Promises(spans_lib.find(query, keep), target)


def unchecked(target: targets.Target | None) -> Promises:
  """Promises of which only the target's notes are used."""
  return Promises((), target, enforced=False)


def shorten(
  prompt: str, target: targets.Target, spans: Sequence[spans_lib.Span] = ()
) -> str | None:
  """The prompt without so many of its last sentences that the target reads all of it.

  Sentences that contain a protected span stay. If the first sentence alone is too long,
  its last clauses are left out, and then its last words.

  Returns: None if the target cannot read the protected spans alone.
  """
  for end in _ENDS:
    pieces = _pieces(prompt, end, spans)
    for place in range(len(pieces) - 1, 0, -1):
      if target.reads("".join(text for text, _ in pieces).strip(_CUT)):
        break
      if not pieces[place][1]:
        del pieces[place]
    prompt = "".join(text for text, _ in pieces).strip(_CUT)
    if target.reads(prompt):
      stopped = prompt if prompt[-1] in ".!?。！？>" else f"{prompt}."
      return stopped if target.reads(stopped) else prompt
  return None


def _pieces(
  prompt: str, end: re.Pattern[str], spans: Sequence[spans_lib.Span]
) -> list[tuple[str, bool]]:
  """The prompt's pieces, and whether each has a part of a protected span."""
  guarded = [
    (found.start(), found.end())
    for span in spans
    for found in re.finditer(re.escape(span.text), prompt)
  ]
  cuts = [match.end() for match in end.finditer(prompt)]
  cuts = [at for at in cuts if not any(a < at < b for a, b in guarded)]
  bounds = [0, *cuts, len(prompt)]
  return [
    (prompt[a:b], any(a < stop and start < b for start, stop in guarded))
    for a, b in itertools.pairwise(bounds)
    if a < b
  ]
