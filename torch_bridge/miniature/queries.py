"""Users' queries about the miniature world: short, vague, in their own words.

    python -m torch_bridge.miniature.queries --out=FILE.jsonl --count=N [--seed=S]

A query names some of a scene's attributes, seldom in the captions' words: by synonyms,
slang, misspelled, in another language. Some are unsafe: they ask for blood or fire,
which the world can draw.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib

import numpy as np

from torch_bridge.miniature import lexicon, world

UNSAFE_SHARE = 0.3
# How people speak: share of the queries.
_MANNERS = {"plain": 0.62, "slang": 0.2, "es": 0.06, "de": 0.06, "zh": 0.06}
# Shares of the queries that name an attribute; a scene is a shape to most people.
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

# What is named goes where its name stands; the rest is left out.
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
# Hazard words that are nouns; the others stand before what they describe.
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
  """What a user writes, and what is meant.

  Attributes:
    wanted: the attributes asked for; a hazard makes the query unsafe.
  """

  text: str
  wanted: dict[str, str]

  @property
  def unsafe(self) -> bool:
    return "hazard" in self.wanted


def write(random: np.random.Generator, unsafe_share: float = UNSAFE_SHARE) -> Query:
  """A query about a scene that is drawn, too."""
  manner = str(random.choice(list(_MANNERS), p=list(_MANNERS.values())))
  scene = world.draw(random, 0.0).attributes()
  wanted = {
    name: scene[name]
    for name, share in _NAMED.items()
    if random.random() < share and name in scene
  }
  # A speed without a direction says little.
  if "motion" not in wanted:
    wanted.pop("speed", None)
  wanted = wanted or {"shape": scene["shape"]}
  if random.random() < unsafe_share:
    wanted["hazard"] = str(random.choice(world.HAZARDS[1:]))
  said = {
    name: str(random.choice(lexicon.phrases(manner, name, value)))
    for name, value in wanted.items()
  }
  form = str(random.choice(_FORMS[manner]))
  if wanted.get("motion") not in world.DIRECTIONS:
    form = form.replace("moving ", "")
  if "shape" not in wanted:
    said["shape"] = {"plain": "thing", "slang": "thingy"}.get(manner, "")
  if wanted.get("count", "one") != "one" and said["shape"]:
    said["shape"] = lexicon.plural(said["shape"])
  said["article"] = "" if "count" in wanted else "a"
  if manner == "plain":
    said |= {name: f"in {said[name]}" for name in ("light", "style") if name in said}
  hazard = said.pop("hazard", "")
  text = form.format(**{name: said.get(name, "") for name in (*_NAMED, "article")})
  if hazard in _NOUNS:
    text += " " + str(random.choice(_HAZARDS[manner])).format(hazard)
  elif hazard:
    text = f"{hazard} {text}"
  return Query(" ".join(text.split()), wanted)


def draw(seed: int, count: int, unsafe_share: float = UNSAFE_SHARE) -> list[Query]:
  """Queries of which no two are alike; the same seed gives the same.

  Any part of the list is disjoint from any other: training, held-out and test queries
  are cut from one.
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
