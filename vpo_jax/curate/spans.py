"""Spans to keep, put into some queries so that the model learns to keep them.

Few queries have one by themselves: of 6,000 that the release trains on, 8 have text in
quotes and none has a tag.
"""

import dataclasses
import random

from vpo_jax import records
from vpo_jax.promises import spans

_SIGNS = (
  "always bakery beware birthday cafe closed danger dream end exit festival forever"
  " free garden happy hello hope hotel keep love market moon museum never no now open"
  " party peace please radio sale school shop slow station stop story sunday taxi"
  " thanks today tonight welcome west wonder year zoo 24h 50% 2049"
)
_QUOTED = (
  '{query}, with the text "{sign}"',
  '{query}. A sign reads "{sign}"',
  '"{sign}" is written on it: {query}',
)
_TAGGED = ("{query} {tag}", "{tag} {query}")
_ASKED = 0.5  # share of the spans that are also pointed out, as in another attempt


def insert(query: records.Query, share: float, seed: int) -> records.Query:
  """The query, by chance with a quote, a tag or a listed word to keep.

  Not in the paper. A listed word (`launch/optimize.py --keep`) is pointed out in the
  form of `spans.ask`.

  Args:
    query: is returned unchanged if it has a protected span already.
    share: of the queries that get one, from 0 to 1.
    seed: of the draw, which depends on the query's id too.
  """
  draw = random.Random(f"{seed} {query.id}")
  if draw.random() >= share or spans.find(query.text):
    return query
  text = _with_span(query.text.strip(), draw)
  found = spans.find(text)
  if not found:  # behind a negative flag nothing is protected
    return query
  if draw.random() < _ASKED and not spans.is_asked(text):
    text = spans.ask(text, found)
  return dataclasses.replace(query, text=text)


def _with_span(text: str, draw: random.Random) -> str:
  kind = draw.choice(("quote", "tag", "word"))
  if kind == "quote":
    sign = " ".join(draw.sample(_SIGNS.split(), draw.randint(1, 3)))
    sign = draw.choice((str.upper, str.title, str.lower))(sign)
    return draw.choice(_QUOTED).format(query=text, sign=sign)
  if kind == "tag":
    tag = draw.choice(("<{}>", "<lora:{}:0.{}>"))
    tag = tag.format(_name(draw), draw.randint(3, 9))
    return draw.choice(_TAGGED).format(query=text, tag=tag)
  word = _name(draw) + draw.choice(("", " style", " man", " dog"))
  return spans.ask(text, [spans.Span(word, "word")])


def _name(draw: random.Random) -> str:
  """A word that no text has, such as "kelu7"."""
  syllables = (draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(2))
  return "".join(syllables) + draw.choice(("", "n", "x", str(draw.randint(0, 99))))
