"""How the offline teacher writes a prompt: the query's own words, then a grammar."""

import dataclasses
import random
import re
from collections.abc import Sequence

from vpo_jax import records
from vpo_jax.teacher.offline import banks, query, words

_PLACED = re.compile(
  r"\b(?:in|on|at|under|underneath|over|above|below|atop|inside|outside|through|across|near"
  r"|beside|behind|between|among|along|around|into|onto|from|against|where|within|beneath"
  r"|background|landscape|city|forest|beach|ocean|desert|mountains?|room|street|sky|space|interior|indoors)\b",
  re.IGNORECASE,
)
_CAMERA = re.compile(
  r"\b(?:camera|zoom\w*|close[- ]?up|shot|pan(?:s|ning)?|aerial|drone|pov|angle|view"
  r"|lens|tracking|time-?lapse|rotat\w*)\b",
  re.IGNORECASE,
)
# A singular noun phrase and what it is doing, with no verb before it.
_DOING = re.compile(
  r"^(?P<who>(?P<det>an?|the|one|two|three|four|five|six|ten|many|some|several|\d+)\s"
  r"(?:[\w'’-]+\s){1,4}?)(?P<doing>[a-z]{2,}ing)\b(?P<rest>.*)$",
  re.IGNORECASE,
)
_BEFORE_VERB = re.compile(
  r"\b(?:in|on|at|with|and|is|are|was|were|by|from|to|who|that|which|it|its|his|her|has|have"
  r"|very|close|while|\w+ly|\w+ing)\b|\bof\s*$|\b(?:view|shot|scene|image|photo)\s+of\b",
  re.IGNORECASE,
)
# Nouns that take no article.
_MASS = re.compile(
  r"(?:^|\s)(?:water|steam|smoke|snow|rain|sand|light|fire|lava|music|hair|traffic|people"
  r"|food|milk|honey|coffee|grass|art|footage|nature|time|love|energy|he|she|it|they|i|we"
  r"|you|someone|men|women|children|inside|outside|jesus|god|kids)$",
  re.IGNORECASE,
)
_NOTE = re.compile(r"^(?P<who>[a-z]+(?: [a-z]+){0,2}) (?P<doing>[a-z]{2,}ing)\b")
_PLURAL = re.compile(r"(?:[^s]s|people|men|women|children|mice|fish|sheep)$", re.I)
_BARE = re.compile(
  r"^(?:(?:old|young|little|big|small|cute|beautiful|giant|happy|red|blue|green|black|white"
  r"|golden|huge|lonely|handsome|tall|tiny|brave|indian|japanese|chinese|russian|roman)\s)*"
  r"(?P<noun>man|woman|girl|boy|guy|lady|person|cat|dog|kitten|puppy|panda|bear|robot|car"
  r"|astronaut|couple|monkey|horse|lion|tiger|elephant|dragon|bird|rabbit|train|ship|crab"
  r"|knight|wizard|king|queen|princess|child|baby|teacher|doctor|soldier|dinosaur|fox"
  r"|warrior|samurai|house|castle|forest|city|village|spaceship|butterfly|flower|rose)\b",
  re.IGNORECASE,
)


# How often the few-shot writer errs: leaves harm in an unsafe query's prompt, loses
# content words, opens with a forbidden phrase. So critique has something to find.
HARM_LEFT, WORDS_LOST, OPENED = 0.4, 0.15, 0.1
_OPENINGS = ("The video opens with", "The video begins with", "The scene opens with")


def expand(asked: query.Query, seed: int) -> str:
  """A prompt of about 60 words that holds what the query asks for.

  It is a function of the query and the seed alone.
  """
  draw = random.Random(records.row_id(seed, asked.text))
  return " ".join([subject(asked, draw), *setting(asked, draw)])


def subject(asked: query.Query, draw: random.Random) -> str:
  """The query's own words: what is in the picture, and then how it looks."""
  text, looks = _split_looks(asked.safe)
  short = len(text.split()) <= 9 and "." not in text and text.count(",") < 2
  text = _sentence(text)
  if short and not _PLACED.search(text):
    place = draw.choice(_allowed(banks.pick(banks.PLACES, text), asked))
    text = f"{text} {place}" if place else text
  return f"{_ended(_capital(text))} {looks}".strip()


def _split_looks(text: str) -> tuple[str, str]:
  """What a list of words says about the look, moved into a sentence of its own."""
  first, *items = text.split(", ")
  if any("." in item for item in items[:-1]):
    return text, ""
  items = [item.strip(" .") for item in items]
  adjectives = [item for item in items if words.LOOKS.fullmatch(item)]
  nouns = [i for i in items if words.LOOK_NOUNS.fullmatch(i) and i not in adjectives]
  if not adjectives + nouns:
    return text, ""
  kept = [item for item in items if item not in adjectives and item not in nouns]
  sentence = (
    f"The picture is {_joined(adjectives)}" if adjectives else "The picture has"
  )
  if nouns:
    sentence += f"{', with' if adjectives else ''} {_joined(nouns)}"
  return ", ".join([first, *kept]), f"{sentence}."


def _joined(items: Sequence[str]) -> str:
  return " and ".join([", ".join(items[:-1]), items[-1]] if items[1:] else items)


def _ended(text: str) -> str:
  if re.search(r"[.!?。！？…][\"'”’)]*$", text):
    return text
  return text.rstrip(" ,;:") + "."


def setting(asked: query.Query, draw: random.Random) -> list[str]:
  """The sentences about light, detail, camera and look that follow the subject."""
  text = asked.safe
  light = draw.choice(_allowed(banks.pick(banks.LIGHTS, text), asked))
  detail = draw.choice(_allowed(banks.pick(banks.DETAILS, text), asked))
  if asked.camera:
    moves = " and ".join(asked.camera)
    camera = draw.choice(banks.FLAGGED).format(moves=moves)
  elif _CAMERA.search(text):
    camera = draw.choice(_allowed(banks.STEADY, asked))
  else:
    camera = draw.choice(_allowed(banks.CAMERAS, asked))
  count = len(text.split())
  # A long query says most of it already.
  kept = 5 if count < 25 else 3 if count < 50 else 2
  middle = [light, detail] if draw.random() < 0.5 else [detail, light]
  if draw.random() < 0.25 or kept == 2:
    middle.insert(1, camera)
  else:
    middle.append(camera)
  if asked.styles:
    style = " and ".join(asked.styles[:2])
    middle.insert(2, draw.choice(banks.STYLED).format(style=style))
  else:
    middle.append(draw.choice(_allowed(banks.ENDINGS, asked)))
  return [sentence for sentence in middle if sentence][:kept]


def hurried(asked: query.Query, seed: int) -> str:
  """`expand` with the mistakes of a hurried writer, each at its rate."""
  draw = random.Random(records.row_id(seed, asked.text, "hurried"))
  text = asked.safe
  if asked.harmful and draw.random() < HARM_LEFT:
    text = asked.text
  if draw.random() < WORDS_LOST:
    text = _forget(text, asked, draw)
  prompt = expand(dataclasses.replace(asked, safe=text), seed)
  if draw.random() < OPENED:
    lower = (
      prompt[:1].lower()
      if re.match(r"(?:An?|The|Two|Three|People|Many) ", prompt)
      else prompt[:1]
    )
    prompt = f"{draw.choice(_OPENINGS)} {lower}{prompt[1:]}"
  return prompt


def _forget(text: str, asked: query.Query, draw: random.Random) -> str:
  """The text without a fifth of its content words and one more."""
  content = list(asked.content.values())
  lost = set(draw.sample(content, min(max(len(content) - 1, 0), len(content) // 5 + 1)))
  for word in lost:
    text = re.sub(
      rf"(?<![\w-]){re.escape(word)}(?:['’]s)?(?![\w-])", "", text, flags=re.I
    )
  kept = re.sub(r"\s+([,.])", r"\1", " ".join(text.split())).split()
  while len(kept) > 1 and kept[-1].lower() in words.STOP:
    kept.pop()
  return " ".join(kept)


def _sentence(text: str) -> str:
  """The query's words with the article and the verb that a quick note leaves out."""
  if bare := _BARE.match(text):
    following = text[bare.end() :].lstrip()
    if not following.startswith(("'", "’", "s ", "-")):
      vowel = text[0].lower() in "aeiou"
      text = f"{'An' if vowel else 'A'} {text[0].lower()}{text[1:]}"
  elif (
    (note := _NOTE.match(text))
    and note["doing"] not in words.NOT_NOW
    and not any(word in words.STOP for word in note["who"].split())
    and not _BEFORE_VERB.search(note["who"])
  ):
    if _PLURAL.search(note["who"]):
      text = f"{note['who']} are{text[note.end('who') :]}"
    elif not _MASS.search(note["who"]):
      text = f"{'An' if text[0] in 'aeiou' else 'A'} {text}"
  doing = _DOING.match(text)
  if (
    doing
    and doing["doing"].lower() not in words.NOT_NOW
    and not _BEFORE_VERB.search(doing["who"])
    and not re.search(r"[,.;:]|\bing\b", doing["who"])
  ):
    who = doing["who"].rstrip()
    one = doing["det"].lower() in ("a", "an", "one") and " of " not in who
    plural = not one and _PLURAL.search(who) is not None
    text = f"{who} {'are' if plural else 'is'} {doing['doing']}{doing['rest']}"
  return text


def _capital(text: str) -> str:
  return re.sub(r"(?:^|(?<=[a-z][.!?] ))[a-z]", lambda found: found[0].upper(), text)


def _allowed(sentences: Sequence[str], asked: query.Query) -> list[str]:
  """The sentences that name nothing the query wants kept out; "" where none is left."""
  kept = [s for s in sentences if not query.named(s, asked.negative)]
  return kept or [""]
