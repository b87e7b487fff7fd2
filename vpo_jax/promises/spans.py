"""Protected spans: parts of a query that its prompt must contain unchanged.

They are text that is to be seen or heard, which a query has in quotes; tags in angle
brackets, such as a LoRA's; and words that the user lists, such as a trigger word.
"""

import dataclasses
import html
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from vpo_jax.promises import query_flags

Kind = Literal["quote", "tag", "word"]

# Straight quotes are also apostrophes and inches, so they must be around words.
_QUOTES = re.compile(
  r"(?<!\w)\"([^\"\n]*)\"(?!\w)|“([^”\n]+)”|„([^“”\n]+)[“”]|«([^»\n]+)»"
  r"|「([^」\n]+)」|『([^』\n]+)』|(?<!\w)[‘']([^‘’'\n]+)[’'](?!\w)"
)
_TAG = re.compile(r"<[^<>\s][^<>\n]*>")
_ASK = " (the prompt must contain exactly: {})"
_ASKED = re.compile(re.escape(_ASK).replace(r"\{\}", "(.+)") + "$")
# Queries copied from a web page have its markup, sometimes cut off.
_HTML = re.compile(
  r"</\w+>?|<(?:a|b|big|br|center|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|small"
  r"|span|strong|sub|sup|table|td|th|tr|u|ul)(?=[\s/>])[^<>]*(?:>|$)",
  re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Span:
  """A part of a query that is to be kept.

  Attributes:
    text: without the quotes around it.
  """

  text: str
  kind: Kind


def find(query: str, words: Iterable[str] = ()) -> tuple[Span, ...]:
  """The protected spans of a query in their order, then the listed words.

  What `ask` has pointed out is found again. A quote's HTML entities are decoded. Not
  protected are quotes in a negative flag, HTML tags, and a quote that is the whole
  query.

  Args:
    words: names and trigger words; they are to be in the prompt even if the query does
      not have them.
  """
  text = _HTML.sub(" ", query_flags.without_negative(query))
  found = [
    (match.start(), Span(html.unescape(quote.strip()), "quote"))
    for match in _QUOTES.finditer(text)
    if (quote := next(filter(None, match.groups()), "")).strip()
    if re.search(r"\w", text[: match.start()] + text[match.end() :])
  ]
  found += [(match.start(), Span(match[0], "tag")) for match in _TAG.finditer(text)]
  spans = [span for _, span in sorted(found, key=lambda one: one[0])]
  asked = _ASKED.search(query)
  listed = _TAG.sub("", _QUOTES.sub("", asked[1])).split(",") if asked else []
  spans += [Span(word.strip(), "word") for word in listed if word.strip()]
  spans += [Span(word, "word") for word in words]
  first: dict[str, Span] = {}
  for span in spans:
    first.setdefault(span.text, span)
  return tuple(first.values())


def missing(prompt: str, spans: Iterable[Span]) -> list[Span]:
  """The spans that a prompt does not contain."""
  return [span for span in spans if span.text not in prompt]


def problem(lost: Sequence[Span]) -> str | None:
  """Why a prompt without these spans is rejected, as `guard.problem` says it."""
  return f"lacks {_listed(lost)}" if lost else None


def ask(query: str, spans: Sequence[Span]) -> str:
  """The query with its spans pointed out to the model."""
  return query + _ASK.format(_listed(spans))


def is_asked(query: str) -> bool:
  """Whether the query is one of `ask`."""
  return _ASKED.search(query) is not None


def insert(prompt: str, lost: Sequence[Span]) -> str:
  """The prompt with the spans that it lacks: words first, tags last."""
  by_kind: dict[Kind, list[str]] = {"word": [], "quote": [], "tag": []}
  for span in lost:
    by_kind[span.kind].append(span.text)
  quoted = " and ".join(f'"{text}"' for text in by_kind["quote"])
  text = ", ".join([*by_kind["word"], prompt])
  text += f" With the words {quoted}." if quoted else ""
  return " ".join([text, *by_kind["tag"]])


def _listed(spans: Sequence[Span]) -> str:
  return ", ".join(f'"{s.text}"' if s.kind == "quote" else s.text for s in spans)
