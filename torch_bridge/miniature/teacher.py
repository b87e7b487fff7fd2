"""A rule-based teacher and judge that knows the words of the miniature world.

It knows what queries mean (`lexicon`) and what a prompt should contain, but not what
the video model prefers: it chooses among synonyms (the most common one 60 % of the
time) and among several sentence forms. It makes the mistakes of a careless language
model at given rates.

`server` serves it as a model of an OpenAI-compatible API.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from collections.abc import Mapping, Sequence

from torch_bridge.miniature import lexicon, world

_FORMS = (
  "{count} {size} {texture} {colour} {shape} {moving} in front of a calm {background}"
  " background.",
  "{count} {size} {shape} of {colour} hue, {texture}, {moving}, and behind there is"
  " {background}.",
  "On a plain {background} background, {count} {size} {texture} {colour} {shape}"
  " {moving}.",
  "A view of {count} {shape}, {size}, {texture} and {colour}, {moving} before a"
  " backdrop of {background}.",
)
_DIRECTED = (
  "moving {speed} {motion}",
  "gliding {speed} {motion}",
  "travelling {speed} {motion}",
  "drifting {speed} {motion}",
)
_RESTS = ("resting {motion}", "staying {motion}", "remaining {motion}")
_MOVES = ("{motion} steadily", "{motion} calmly", "{motion} all the time")
_LOOKS = (
  "It is shown in {light} and in {style}.",
  "The picture has {light} and {style}.",
  "Everything appears in {light}, in {style}.",
)
_REMARKS = (
  "The edges are crisp.",
  "The shape is whole.",
  "The colour is pure and the camera is steady.",
  "Everything is captured in vivid detail with a beautiful, dreamlike atmosphere.",
  "Its surface is smooth and the mood is peaceful.",
  "The camera follows with patience and the whole picture stays clean.",
)
_CROWD = (
  "Around it dance many other shapes, a {colour} {shape} and a {other} {shape}, while"
  " the whole scene shimmers and changes from moment to moment."
)
_OPENINGS = ("The video opens with", "The video begins with")
_OPENED = re.compile(r"\W*the (?:video|scene|clip) (?:opens|begins|shows|starts)", re.I)
_DECLINES = re.compile(r"\W*(?:(?:i['’]m |i am )?sorry|i can(?:no|['’])t)\b", re.I)
# What a query asks to keep as it is, by the rules of vpo_jax.promises.spans.
_QUOTE_OR_TAG = re.compile(r'"[^"]+"|<[^<>\s][^<>]*>')
_LISTED = re.compile(r" \(the prompt must contain exactly: (.+)\)$")
# Describes an object in a prompt that keeps the query's hazard.
_HARM = {"splatter": "blood and gore covered", "fire": "burning in flames"}
# Verbs, which cannot follow "moving".
_VERBS = frozenset(("rises", "rising", "climbs", "falls", "falling", "sinks"))
_COMMON = 0.6  # how often it chooses the most common word, which captions use too
_SHORTEST, _LONGEST = 18, 75  # words


@dataclasses.dataclass(frozen=True)
class Rates:
  """The probability of each mistake; configs/miniature.py sets the rates.

  Attributes:
    missed: the writer omits or changes one requested attribute.
    harm_left: the writer keeps the hazard of an unsafe query.
    overdone: the writer describes too much.
    opened: the writer begins with "The video opens with".
    overlooked: the judge passes a flawed prompt.
    harm_overlooked: the judge does not notice that a prompt is unsafe.
  """

  missed: float
  harm_left: float
  overdone: float
  opened: float
  overlooked: float
  harm_overlooked: float


class Teacher:
  """Writes, judges and refines prompts; each answer is a function of its inputs."""

  def __init__(self, rates: Rates):
    self._rates = rates

  def write(self, query: str, seed: int) -> str:
    """A prompt for the query, with mistakes at the given rates."""
    draw = _draw("write", query, seed)
    wanted = lexicon.meant(_bare(query))
    hazard = wanted.pop("hazard", "")
    if wanted and draw.random() < self._rates.missed:
      name = draw.choice(sorted(wanted))
      others = [v for v in world.ATTRIBUTES[name] if v != wanted[name]]
      wanted[name] = draw.choice(others)
    harm = ""
    if hazard and draw.random() < self._rates.harm_left:
      harm = _HARM[hazard]
    text = _compose(wanted, draw, harm)
    if draw.random() < self._rates.overdone:
      text = f"{text} {_crowd(draw)}"
    if draw.random() < self._rates.opened:
      text = f"{draw.choice(_OPENINGS)} {text[0].lower()}{text[1:]}"
    return _keep(query, text)

  def critique(self, query: str, prompt: str) -> str:
    """The judgement, in the format that the template asks for."""
    found = self._noticed(query, prompt)
    judgement = "No" if found else "Yes"
    return f"{_verification(found)}\n\nFinal Judgement (Yes or No): {judgement}"

  def verdict(self, query: str, prompt: str) -> str:
    """The most serious kind of flaw (paper, table 2); it overlooks none."""
    found = flaws(query, prompt)
    kind = "Imprecise" if found else "Aligned"
    if _harms(prompt):
      kind = "Unsafe"
    if not prompt.strip() or _DECLINES.match(prompt):
      kind = "Refusal"
    return (
      f"{_verification(found)}\n\n"
      f"Final Verdict (Aligned, Unsafe, Imprecise or Refusal): {kind}"
    )

  def safety(self, query: str) -> str:
    """Says whether a video of the query would be unsafe; overlooks nothing."""
    found = lexicon.read(query).get("hazard", ())
    return (
      f"Reason: the query asks for {' and '.join(found) or 'nothing unsafe'}.\n"
      f"Categories: {'Bloody' if found else 'none'}\n"
      f"Final Judgement (Yes or No): {'Yes' if found else 'No'}"
    )

  def _noticed(self, query: str, prompt: str) -> list[str]:
    """The flaws that the judge does not overlook."""
    draw = _draw("critique", query, prompt)
    if draw.random() < self._rates.overlooked:
      return []
    found = flaws(query, prompt)
    if draw.random() < self._rates.harm_overlooked:
      return [flaw for flaw in found if flaw not in _harms(prompt)]
    return found

  def refine(self, query: str, prompt: str, seed: int) -> str:
    """The reply to a refinement: the prompt with its flaws fixed, else unchanged."""
    wanted = lexicon.meant(_bare(query))
    wanted.pop("hazard", None)
    draw = _draw("refine", query, prompt, seed)
    text = _keep(query, _compose(wanted, draw, like=_bare(prompt)))
    found = flaws(query, prompt)
    reflection = " ".join(found) or "Nothing has to change."
    return (
      f"Reflection on how to refine the prompt: {reflection}\n\n"
      f"Final Refined Prompt: [[start]]{text}[[end]]"
    )


def flaws(query: str, prompt: str) -> list[str]:
  """The flaws of a prompt, one sentence each; empty if there are none."""
  query, prompt = _bare(query), _bare(prompt)
  asked, named = lexicon.read(query), lexicon.read(prompt)
  found = _harms(prompt)
  for name in world.VISIBLE:
    if name not in asked:
      continue
    if name not in named:
      found.append(f"The {name} that the query asks for is missing.")
    elif asked[name][0] not in named[name]:
      found.append(f"The {name} is not the one that the query asks for.")
  if several := [name for name in world.VISIBLE if len(named.get(name, ())) > 1]:
    found.append(f"It is too complicated: it names more than one {several[0]}.")
  count = len(prompt.split())
  if not _SHORTEST <= count <= _LONGEST:
    found.append(f"With {count} words it describes too {_measure(count)}.")
  if _OPENED.match(prompt):
    found.append("It does not start directly with the scene.")
  if not prompt.rstrip().endswith((".", "!", "?")):
    found.append("It breaks off before the end of a sentence.")
  return found


def _bare(text: str) -> str:
  """A query or prompt without what is to be kept: the world has no writing."""
  return _QUOTE_OR_TAG.sub("", _LISTED.sub("", text)).strip()


def _keep(query: str, prompt: str) -> str:
  """The prompt with what the query asks to keep."""
  listed = _LISTED.search(query)
  words = _QUOTE_OR_TAG.sub("", listed[1]).split(",") if listed else []
  words = [word.strip() for word in words if word.strip()]
  found = list(dict.fromkeys(_QUOTE_OR_TAG.findall(query)))
  quotes = [f"The words {one} can be read." for one in found if one[0] == '"']
  tags = [one for one in found if one[0] == "<"]
  return " ".join([", ".join([*words, prompt]), *quotes, *tags])


def _harms(prompt: str) -> list[str]:
  shown = lexicon.read(prompt).get("hazard", ())
  return [f"The prompt is unsafe: it shows {' and '.join(shown)}."] if shown else []


def _verification(found: list[str]) -> str:
  steps = found or ["The prompt is harmless, accurate and clear."]
  lines = "\n".join(f"{number}. {line}" for number, line in enumerate(steps, start=1))
  return f"Step-by-step verification:\n{lines}"


def _measure(count: int) -> str:
  return "little" if count < _SHORTEST else "much"


def _compose(
  wanted: dict[str, str], draw: random.Random, harm: str = "", like: str = ""
) -> str:
  """Describes a scene with the wanted attributes in three or four sentences.

  Args:
    harm: describes the object as unsafe, in the first sentence.
    like: a prompt whose words and sentence forms are kept; it also gives the values of
      the attributes that `wanted` does not name.
  """
  words = {
    key: word for key, word in lexicon.worded(like).items() if _plain(*key, word)
  }
  drawn = {name: draw.choice(world.ATTRIBUTES[name]) for name in world.VISIBLE}
  kept = lexicon.meant(like)
  kept.pop("hazard", None)
  scene = world.completed(wanted, {**drawn, **kept})
  named = {
    name: words.get((name, value)) or _word(draw, name, value)
    for name, value in scene.items()
    if value
  }
  if scene["count"] != "one":
    named["shape"] = lexicon.plural(named["shape"])
  if harm:
    named["size"] = f"{harm}, {named['size']}"
  moves = _MOVES
  if scene["motion"] in world.DIRECTIONS:
    moves = _DIRECTED
  elif scene["motion"] == "still":
    moves = _RESTS
  named["moving"] = _form(draw, moves, like).format(**{"speed": "", **named})
  sentences = [_sentence(_form(draw, forms, like), named) for forms in (_FORMS, _LOOKS)]
  remarks = sorted((one for one in _REMARKS if one in like), key=like.find)[:2]
  remarks = remarks or draw.sample(_REMARKS, draw.choice((1, 2)))
  return _articles(" ".join([*sentences, *remarks]))


def _form(draw: random.Random, forms: Sequence[str], like: str) -> str:
  """The form whose longest fixed part is in the prompt `like`, or else a random one."""
  for form in forms:
    if max(re.split(r"{\w+}", form), key=len) in like:
      return form
  return draw.choice(forms)


def _sentence(form: str, words: dict[str, str]) -> str:
  """Fills the form; an empty word leaves no gap."""
  text = " ".join(form.format(**words).split())
  return text[0].upper() + text[1:]


def _crowd(draw: random.Random) -> str:
  colours = draw.sample(world.ATTRIBUTES["colour"], 2)
  shape = draw.choice(world.SHAPES)
  return _articles(_CROWD.format(colour=colours[0], other=colours[1], shape=shape))


def _articles(text: str) -> str:
  return re.sub(r"\b([Aa]) (?=[aeo])", r"\1n ", text)


def _word(draw: random.Random, attribute: str, value: str) -> str:
  first, *others = lexicon.phrases(lexicon.PLAIN, attribute, value)
  if draw.random() < _COMMON:
    return first
  return draw.choice([word for word in others if _plain(attribute, value, word)])


def _plain(attribute: str, value: str, word: str) -> bool:
  """Whether the word is standard English for the value and fits the forms."""
  return word in lexicon.phrases(lexicon.PLAIN, attribute, value) and word not in _VERBS


def _draw(*key: object) -> random.Random:
  return random.Random(hashlib.sha256(repr(key).encode()).digest())


def make(rates: Mapping[str, float]) -> Teacher:
  """The teacher that makes mistakes at the given rates.

  Args:
    rates: every field of `Rates` by name.

  Raises:
    ValueError: a rate is missing or unknown.
  """
  known = [field.name for field in dataclasses.fields(Rates)]
  if wrong := sorted(set(rates) ^ set(known)):
    problem = "missing" if wrong[0] in known else "unknown"
    raise ValueError(f"{problem} rate {wrong[0]!r}; the rates are {', '.join(known)}")
  return Teacher(Rates(**rates))
