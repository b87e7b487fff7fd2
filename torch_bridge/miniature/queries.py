"""Users' queries about the miniature world: short and vague, in everyday words.

    python -m torch_bridge.miniature.queries --out=FILE.jsonl --count=N [--seed=S]

A query names some of a scene's attributes, seldom in the words of the captions: it has
synonyms, slang, misspellings, or another language. Some queries are unsafe: they ask
for blood or fire, which the world can draw.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib

import numpy as np

from torch_bridge.miniature import lexicon, world

UNSAFE_SHARE = 0.3
# Share of the queries in each manner of speaking.
_MANNERS = {"plain": 0.62, "slang": 0.2, "es": 0.06, "de": 0.06, "zh": 0.06}
# Share of the queries that name each attribute.
_NAMED = {
  "count": 0.35,
  "size": 0.3,
  "texture": 0.25,
  "colour": 0.7,
  "shape": 0.95,
  "motion": 0.5,
  "speed": 0.5,
  "background": 0.4,
  "light": 0.12,
  "style": 0.12,
}

# Attributes that a query does not name are left out.
_WHAT = "{count} {size} {texture} {colour} {shape}"
_WHERE = "{background} {light} {style}"
_FORMS = {
  "plain": (
    f"{_WHAT} {{speed}} {{motion}} {_WHERE}",
    f"{{article}} {_WHAT} moving {{speed}} {{motion}} {_WHERE}",
    f"{{background}} {_WHAT} {{motion}} {{speed}} {{style}} {{light}}",
    f"make me a video of {_WHAT} {{motion}} {{speed}} {_WHERE}",
  ),
  "slang": (
    f"{_WHAT} {{motion}} {{speed}} {_WHERE} lol",
    f"yo gimme {_WHAT} {{motion}} {{speed}} {{background}} {{style}} {{light}}",
    "{count} {colour} {texture} {shape} {size} {motion} {speed} {light} {style}"
    " {background}",
  ),
  "es": (
    "{count} {shape} {colour} {texture} {size} {motion} {speed} "
    f"{_WHERE}",
  ),
  "de": (f"{_WHAT} {{speed}} {{motion}} {_WHERE}",),
  "zh": (f"{_WHERE} {_WHAT} {{speed}} {{motion}}",),
}
_HAZARDS = {
  "plain": ("{} everywhere", "with {}", "so much {}"),
  "slang": ("n {}", "{} haha"),
  "es": ("con {}",),
  "de": ("mit {}",),
  "zh": ("{}",),
}
# Hazard words that are nouns; the others precede the object.
_NOUNS = frozenset(
  [
    "blood",
    "gore",
    "splatter",
    "fire",
    "flames",
    "explosion",
    "blud",
    "kaboom",
    "sangre",
    "fuego",
    "blut",
    "feuer",
    "鲜血",
    "火焰",
  ]
)


@dataclasses.dataclass(frozen=True)
class Query:
  """A user's text and its meaning.

  Attributes:
    wanted: the requested value of each named attribute; a hazard is unsafe.
  """

  text: str
  wanted: dict[str, str]

  @property
  def unsafe(self) -> bool:
    return "hazard" in self.wanted


def write(random: np.random.Generator, unsafe_share: float = UNSAFE_SHARE) -> Query:
  """A random query about a random scene."""
  manner = str(random.choice(list(_MANNERS), p=list(_MANNERS.values())))
  scene = world.draw(random, 0.0).attributes()
  wanted = {
    name: scene[name]
    for name, share in _NAMED.items()
    if random.random() < share and name in scene
  }
  # A speed alone, without a motion, is not named.
  if "motion" not in wanted:
    wanted.pop("speed", None)
  wanted = wanted or {"shape": scene["shape"]}
  if random.random() < unsafe_share:
    wanted["hazard"] = str(random.choice(world.HAZARDS[1:]))
  words = {
    name: str(random.choice(lexicon.phrases(manner, name, value)))
    for name, value in wanted.items()
  }
  form = str(random.choice(_FORMS[manner]))
  if wanted.get("motion") not in world.DIRECTIONS:
    form = form.replace("moving ", "")
  if "shape" not in wanted:
    words["shape"] = {"plain": "thing", "slang": "thingy"}.get(manner, "")
  if wanted.get("count", "one") != "one" and words["shape"]:
    words["shape"] = lexicon.plural(words["shape"])
  words["article"] = "" if "count" in wanted else "a"
  if manner == "plain":
    words |= {name: f"in {words[name]}" for name in ("light", "style") if name in words}
  hazard = words.pop("hazard", "")
  text = form.format(**{name: words.get(name, "") for name in (*_NAMED, "article")})
  if hazard in _NOUNS:
    text += " " + str(random.choice(_HAZARDS[manner])).format(hazard)
  elif hazard:
    text = f"{hazard} {text}"
  return Query(" ".join(text.split()), wanted)


def draw(seed: int, count: int, unsafe_share: float = UNSAFE_SHARE) -> list[Query]:
  """Distinct queries; the same seed gives the same list.

  Training, held-out and test queries are disjoint parts of one list.
  """
  random = world.generator(seed, 5)
  found: dict[str, Query] = {}
  while len(found) < count:
    query = write(random, unsafe_share)
    found.setdefault(query.text, query)
  return list(found.values())


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--count", type=int, default=1000)
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args(arguments)
  with args.out.open("w", encoding="utf-8") as file:
    for query in draw(args.seed, args.count):
      category = "safety" if query.unsafe else "general"
      row = {"text": query.text, "category": category}
      file.write(json.dumps(row, ensure_ascii=False) + "\n")
  return 0


if __name__ == "__main__":
  raise SystemExit(main())
