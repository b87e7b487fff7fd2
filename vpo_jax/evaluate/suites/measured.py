"""The measures that several suites share: prompts, rewards, verdicts, safety levels."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from vpo_jax import records, templates
from vpo_jax.describe import bleu, words
from vpo_jax.evaluate import levels, measures
from vpo_jax.evaluate.suites import base

OVERALL = "overall"
UNSAFE = "unsafe videos"
CUT = "cut prompts"
WORDS = "words per prompt"
SELF_BLEU = "self-BLEU"
_REFERENCES = 500  # of self-BLEU: bounds its cost, and its growth with the suite's size


def prompts(found: base.Found) -> list[measures.Measure]:
  """Words per prompt, and self-BLEU: how similar a prompt is to its system's others.

  A prompt's self-BLEU is in [0, 1]; low values are diverse prompts. The references are
  the prompts for the same queries for all systems.
  """
  # Ids are hashes, so that the first rows are a random sample of the queries.
  rows = sorted(found.rows, key=lambda row: row.query_id)
  split = {
    one.name: words.of([row.candidates[k].prompt for row in rows])
    for k, one in enumerate(found.chosen)
  }

  def by_query(numbers: Iterable[float]) -> dict[str, float]:
    return {row.query_id: float(n) for row, n in zip(rows, numbers, strict=True)}

  lengths = {name: by_query(of.list.len()) for name, of in split.items()}
  made = [measures.Measure(WORDS, lengths, better="")]
  if len(rows) > 1:  # a single prompt has nothing to be similar to
    scores = {n: by_query(bleu.self_bleu(of, _REFERENCES)) for n, of in split.items()}
    made.append(measures.Measure(SELF_BLEU, scores, better="low"))
  return made


def verdicts(found: base.Found) -> list[measures.Measure]:
  """The shares of prompts with each of the judge's verdicts (paper, table 2)."""
  return [
    measures.Measure(
      verdict,
      {
        name: {query: float(said == verdict) for query, said in by_query.items()}
        for name, by_query in found.verdicts.items()
      },
      unit="%",
      better="high" if verdict == "aligned" else "low",
    )
    for verdict in templates.VERDICTS
  ]


def rewards(found: base.Found) -> list[measures.Measure]:
  """Each dimension of the reward and its sum (paper, tables 1, 3, 4 and 6)."""
  made = []
  for model, scores in found.scores.items():
    made += [
      measures.Measure(group, mean(scores, lambda row, g=group: row.groups[g]), model)
      for group in _groups(scores)
    ]
    made.append(measures.Measure(OVERALL, mean(scores, lambda row: row.reward), model))
  return made


def cut_prompts(found: base.Found) -> list[measures.Measure]:
  """The shares of videos whose prompt the text encoder did not read to its end.

  Empty for a video model that read all prompts.
  """
  return [
    measures.Measure(
      CUT, mean(scores, lambda row: row.lost_tokens > 0), model, "%", better="low"
    )
    for model, scores in found.scores.items()
    if any(
      row.lost_tokens for by in scores.values() for rows in by.values() for row in rows
    )
  ]


def _groups(scores: Mapping[str, Mapping[str, Sequence[records.Scored]]]) -> list[str]:
  for by_query in scores.values():
    for rows in by_query.values():
      return list(rows[0].groups)
  return []


def mean(
  scores: Mapping[str, Mapping[str, Sequence[records.Scored]]],
  of: Callable[[records.Scored], float],
) -> dict[str, dict[str, float]]:
  """The mean over each query's videos, by system and query."""
  return {
    name: {
      query: float(np.mean([of(row) for row in rows])) for query, rows in by.items()
    }
    for name, by in scores.items()
  }


def measured_levels(found: base.Found) -> list[measures.Measure]:
  """Safety levels by a scorer's measures, of the safety-related queries' videos.

  Empty if `config.compare.levels` names no measure, or no query is safety-related.

  Raises:
    UserError: the scorer gives no such measure.
  """
  limits = levels.parse(found.config.compare.levels)
  if not limits:
    return []
  made = []
  for model, scores in found.scores.items():
    asked = {
      name: {
        query: rows
        for query, rows in by.items()
        if found.items[query].query.category == "safety"
      }
      for name, by in scores.items()
    }
    if not all(asked.values()):
      continue
    levels.check(
      limits,
      (row.scalars for by in asked.values() for rows in by.values() for row in rows),
    )
    made += by_level(
      mean_shares(asked, lambda row: levels.level(row.scalars, limits)), model
    )
  return made


def mean_shares(
  scores: Mapping[str, Mapping[str, Sequence[records.Scored]]],
  level: Callable[[records.Scored], int],
) -> dict[str, dict[str, list[float]]]:
  """By system and query, the share of the query's videos at each level."""
  numbers = range(1, len(levels.LEVELS) + 1)
  return {
    name: {
      query: [float(np.mean([level(row) == k for row in rows])) for k in numbers]
      for query, rows in by.items()
    }
    for name, by in scores.items()
  }


def by_level(
  shares: Mapping[str, Mapping[str, Sequence[float]]], model: str
) -> list[measures.Measure]:
  """Measures from each query's shares of the levels (paper, figure 4)."""
  made = [
    measures.Measure(
      f"level {k + 1}",
      {
        name: {query: found[k] for query, found in by.items()}
        for name, by in shares.items()
      },
      model,
      unit="%",
      better="high" if not k else "",
    )
    for k in range(len(levels.LEVELS))
  ]
  unsafe = {
    name: {query: sum(found[levels.UNSAFE - 1 :]) for query, found in by.items()}
    for name, by in shares.items()
  }
  return [*made, measures.Measure(UNSAFE, unsafe, model, unit="%", better="low")]
