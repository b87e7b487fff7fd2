"""How the offline teacher reads a query."""

import dataclasses
import html
import itertools
import re
from collections.abc import Iterable

from vpo_jax import records
from vpo_jax.teacher.offline import words

# What is said to whoever makes the video, before the scene itself.
_LEAD = re.compile(
  r"^[\W_]*"
  r"(?:(?:prompt|image|scene(?: \d+)?|imagine|create|video)\s*[:：]\s*"
  r"|(?:please|kindly|can you|could you|i want you to|i want|i need|i would like|let's)"
  r"\s+)*"
  r"(?:(?:make|create|generate|produce|give me|show me|show|animate|render|design|draw"
  r"|illustrate|visualize|depict|describe|imagine|capture|film(?=\s+(?:an?|the)\s)"
  r"|recreate|recreating|creating)\s+(?:me\s+|us\s+)?(?!(?:it|him|her|them)\b))?"
  r"(?:(?:the\s+)?(?:video|scene)\s+(?:opens|begins|starts|shows)\s+(?:(?:with|to|on)\s+)?"
  r"|(?:(?:a|an|the|some|one)\s+)?(?:[\w-]+\s+){0,4}?"
  r"(?:video|clip|movie|footage|animation|film|image|picture|photo|scene)s?\s+(?:clip\s+)?"
  r"(?:of|about|on|where|in which|that shows|with|for|\w{3,}ing)"
  r"\s+)?",
  re.IGNORECASE,
)
_PLACE = re.compile(
  r"\b(?:in|through|inside|at) (?:an?|the) (?:(?!pig|middle)[a-z]+ ){0,2}"
  r"(?:forest|alley|street|square|city|hospital|station|schoolyard|field|park|house"
  r"|kitchen|room|village|castle|beach|desert|bathroom|hallway|fog|night|rain)\b",
  re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_DIRECTIONS = {
  "left": "pans left",
  "right": "pans right",
  "up": "tilts up",
  "down": "tilts down",
}


@dataclasses.dataclass(frozen=True)
class Query:
  """A query, taken apart.

  Attributes:
    text: what the video is about, without flags, format, sound and request words.
    safe: the same with harmless words in the place of harmful ones.
    content: stems that the prompt must hold, with a word of the query for each.
    styles: style words that stood in the request ("make a cinematic video of").
    camera: what a camera flag asks for, as the camera does it ("zooms in").
    negative: what a negative flag keeps out.
    harmful: the harmful terms that the query holds.
  """

  text: str
  safe: str
  content: dict[str, str]
  styles: tuple[str, ...]
  camera: tuple[str, ...]
  negative: tuple[str, ...]
  harmful: tuple[str, ...]


def read(text: str) -> Query:
  """Takes a user's query apart."""
  text = " ".join(html.unescape(html.unescape(text)).split())
  text = re.sub(r"https?://\S+|</?\w+/?>|\[\[|\]\]|[\x00-\x1f]", " ", text)
  text, flags = _flags(words.BARE_FLAG.sub(" ", text))
  text = words.QUALITY.sub("", words.SOUND.sub("", text))
  lead = _LEAD.match(text)
  head, text = (text[: lead.end()], text[lead.end() :]) if lead else ("", text)
  said = (part for part in map(_tidy, (text, head)) if tokens(part))
  text = next(said, "a quiet landscape")
  safe = soften(text)
  return Query(
    text=text,
    safe=safe,
    content=_content(text, safe),
    styles=tuple(w for w in tokens(head) if w in words.STYLES and w not in safe),
    camera=_camera(flags.get("camera", "")),
    negative=_terms(flags.get("neg", "")),
    harmful=harm(text),
  )


def harm(text: str) -> tuple[str, ...]:
  """The harmful terms in a text, in their order, each once."""
  if not words.ANY_HARM.search(text):
    return ()
  found = [
    (match.start(), match.end(), match[0].lower())
    for pattern in (words.SEVERE, *(pattern for pattern, _ in words.HARM))
    for match in pattern.finditer(text)
  ]
  kept, end = {}, 0
  for start, stop, term in sorted(found, key=lambda f: (f[0], -f[1])):
    if start >= end:
      kept[term] = None
      end = stop
  return tuple(kept)


def soften(text: str) -> str:
  """The text with every harmful term replaced, articles agreeing.

  Parts that no other word makes harmless are left out.
  """
  if not words.ANY_HARM.search(text):
    return text
  text = _without_severe(text)
  for pattern, safe in words.HARM:
    text = pattern.sub(lambda found, safe=safe: "\0" + found.expand(safe), text)
  text = re.sub(r"\b([Aa])n? \0(?=[aeiou])", r"\1n \0", text)
  text = re.sub(r"\b([Aa])n \0(?![aeiou])", r"\1 \0", text)
  text = re.sub(r"\b(?:an?|the) \0(an?|the) ", r"\1 ", text, flags=re.IGNORECASE)
  return text.replace("\0", "")


def named(text: str, terms: Iterable[str]) -> list[str]:
  """The terms that a text names, as whole words."""
  said = f" {' '.join(tokens(text))} "
  return [term for term in terms if f" {term} " in said]


def _without_severe(text: str) -> str:
  if not words.SEVERE.search(text):
    return text
  first, *parts = re.split(r"(?:,|;|\.|，|。|\band\b)\s*", text)
  kept = [part.strip() for part in parts if part and not words.SEVERE.search(part)]
  if words.SEVERE.search(first):
    scene = words.SAFE_SCENES[int(records.row_id(text), 16) % len(words.SAFE_SCENES)]
    place = _PLACE.search(first)
    # Without what led to it, the rest often makes no sense: only the look is kept.
    kept = [part for part in kept if words.LOOKS.fullmatch(part)]
    first = scene + (f" {place[0].strip()}" if place else "")
  return ", ".join([first, *kept])


def tokens(text: str) -> list[str]:
  return [word.lower() for word in _WORD.findall(text)]


def stem(word: str) -> str:
  """A rough stem: dancing, dances, dance and danced are one word."""
  word = word.lower().replace("’", "'").removesuffix("'s")
  for ending in ("ingly", "ing", "edly", "ied", "ed", "ies", "es", "s", "ly", "e"):
    if word.endswith(ending) and len(word) - len(ending) >= 3:
      word = word[: -len(ending)] + ("y" if ending in ("ies", "ied") else "")
      break
  if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
    word = word[:-1]
  return word[:-1] + "i" if len(word) > 3 and word.endswith("y") else word


def _flags(text: str) -> tuple[str, dict[str, str]]:
  found = list(words.FLAG.finditer(text))
  flags: dict[str, str] = {}
  rest = text[: found[0].start()] if found else text
  for flag, following in itertools.zip_longest(found, found[1:]):
    value = text[flag.end() : following.start() if following else len(text)]
    name = {"cam": "camera", "negative": "neg", "no": "neg"}.get(
      flag[1].lower(), flag[1].lower()
    )
    if name in ("camera", "neg"):
      flags[name] = f"{flags.get(name, '')} {value}".strip()
    else:
      # A number or word belongs to the flag; a sentence after it to the query.
      value = re.sub(r"^\s*[\"']?[\w.:/]+[\"']?", "", value)
      rest += " " + value
  return rest, flags


def _camera(value: str) -> tuple[str, ...]:
  value = value.lower()
  moves = []
  if zoom := re.search(r"zoom\w*\s*(in|out)", value):
    moves.append(f"zooms {zoom[1]}")
  if re.search(r"\bccw\b|\bacw\b|anti-?clock|counter-?clock", value):
    moves.append("rotates counterclockwise")
  elif re.search(r"\bcw\b|clockwise", value):
    moves.append("rotates clockwise")
  elif re.search(r"\b(?:orbit|rotat|360)", value):
    moves.append("rotates slowly")
  moves += [
    move for word, move in _DIRECTIONS.items() if re.search(rf"\b{word}\b", value)
  ]
  return tuple(moves)


def _terms(value: str) -> tuple[str, ...]:
  parts = [" ".join(tokens(part)) for part in re.split(r"[,;.]|\band\b", value)]
  parts = [re.sub(r"^(?:no|not|without)\s+", "", part) for part in parts]
  return tuple(dict.fromkeys(part for part in parts if 2 < len(part) < 40))


def _tidy(text: str) -> str:
  text = re.sub(r"\s-+\s*|(?<=\w)-+\s", ", ", text)
  text = re.sub(r"\s+([,.;:!?])", r"\1", " ".join(text.split()))
  text = re.sub(r",(?=[^\s\d])", ", ", text)
  text = re.sub(r"([,;:])(?:\s*[,;:.])+", r"\1", text)
  text = text.strip(" ,;:-–—|/\\*").strip()
  for opened, closed in ('""', "“”", "()", "[]", "''"):
    if text.count(opened) + text.count(closed) * (opened != closed) == 1 or (
      text[:1] == opened and text[-1:] == closed and text.count(closed) < 3
    ):
      text = text.strip(opened + closed)
  return text


def _content(text: str, safe: str) -> dict[str, str]:
  kept = set(map(stem, tokens(safe)))
  content = {}
  for word in tokens(text):
    if word not in words.STOP and word not in words.FORMAT and stem(word) in kept:
      content.setdefault(stem(word), word)
  return content
