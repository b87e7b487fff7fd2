"""Writes files of VidProM's form, of any size, from the shipped queries."""

import csv
import pathlib
import random

from vpo_jax import queries

_FLAGS = (
  "-ar 16:9",
  "-motion 3",
  "-camera zoom in",
  "-gs 20",
  "-seed {}",
  "-neg blurry",
)
_HEADER = ("uuid", "prompt", "time", *queries.TOXICITY)


def write(path: pathlib.Path, rows: int, seed: int = 0) -> pathlib.Path:
  """Writes `rows` rows of VidProM's columns and CSV dialect.

  About 5 % repeat an earlier prompt, 5 % differ from one by a word or punctuation mark,
  15 % have flags, 5 % entities or quotes, 1 % newlines, and 10 % have unsafe scores.
  """
  rng = random.Random(seed)
  shipped = [row.text.split() for row in queries.read(queries.SHIPPED)]
  vocabulary = [word for words in shipped for word in words]
  earlier: list[str] = []
  with path.open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(_HEADER)
    for number in range(rows):
      prompt = _prompt(rng, shipped, vocabulary, earlier)
      if number < 10_000:
        earlier.append(prompt)
      unsafe = rng.random() < 0.1
      scores = [f"{rng.random() * (0.9 if unsafe else 0.3):.5f}" for _ in range(6)]
      uuid = f"{rng.getrandbits(128):032x}"
      table.writerow([uuid, prompt, "Sun Sep  3 12:27:44 2023", *scores])
  return path


def _prompt(
  rng: random.Random,
  shipped: list[list[str]],
  vocabulary: list[str],
  earlier: list[str],
) -> str:
  kind = rng.random()
  if earlier and kind < 0.05:
    return rng.choice(earlier)
  if earlier and kind < 0.1:
    return rng.choice(earlier) + rng.choice((".", "!", " now", " 4k"))
  one, other = rng.choice(shipped), rng.choice(shipped)
  words = one[: rng.randint(1, len(one))] + other[rng.randint(0, len(other) - 1) :]
  for _ in range(rng.randint(0, len(words) // 3 + 1)):
    words[rng.randrange(len(words))] = rng.choice(vocabulary)
  prompt = " ".join(words)
  if kind < 0.25:
    prompt += " " + rng.choice(_FLAGS).format(rng.randrange(10**6))
  elif kind < 0.30:
    prompt = f'the sign says "{prompt}" &amp; it&#39;s night'
  elif kind < 0.31:
    prompt = prompt.replace(" ", "\n", 1)
  return prompt
