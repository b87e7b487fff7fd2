"""What a gain in reward comes from, for each compared pair of systems (reward hacking).

A gain is the second system's value minus the first one's, on the same query.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from vpo_jax import templates
from vpo_jax.evaluate import measures, paired
from vpo_jax.evaluate.suites import measured

ALIGNED, _, IMPRECISE, _ = templates.VERDICTS

Pair = tuple[str, str]


def summarize(
  suites: Mapping[str, Mapping[str, Any]],
  values: Mapping[str, Sequence[measures.Measure]],
  config: ml_collections.ConfigDict,
) -> dict[str, list[dict[str, Any]]]:
  """The part `reward_gains` of each suite in results.json.

  Args:
    suites: the part `suites` of results.json, whose differences are repeated here.
    values: each suite's measures.
    config: `draws` and `seed` of the bootstrap.

  Returns: for each video model and pair of systems the difference of the reward with
    its interval; `parts`, the same for the reward's dimensions, the words and the
    self-BLEU of the prompts and two of the judge's verdicts; and `loses_alignment`,
    None if the judge gave no verdicts. A part's `correlation` is Pearson's, over
    queries, of the gain in reward and the part's gain. It is None if one of them is
    constant, or if the part is of another suite's queries.
  """
  return {
    suite: [
      row
      for one in chosen
      if one.name == measured.OVERALL
      for row in _of_model(suite, one, suites, values, config)
    ]
    for suite, chosen in values.items()
  }


def _of_model(
  suite: str,
  reward: measures.Measure,
  suites: Mapping[str, Mapping[str, Any]],
  values: Mapping[str, Sequence[measures.Measure]],
  config: ml_collections.ConfigDict,
) -> list[dict[str, Any]]:
  summary = _summary(suites, suite, reward)
  rows: dict[Pair, dict[str, Any]] = {
    (row["one"], row["two"]): {
      "model": reward.model,
      "one": row["one"],
      "two": row["two"],
      "queries": summary["queries"],
      **_difference(row),
      "parts": [],
    }
    for row in summary["differences"]
  }
  for place, part in _parts(suite, reward, values):
    theirs = _summary(suites, place, part)
    found = {(row["one"], row["two"]): row for row in theirs["differences"]}
    pairs = [pair for pair in rows if pair in found]
    related = _correlations(reward, part, pairs, config) if place == suite else {}
    for pair in pairs:
      rows[pair]["parts"].append(
        {
          "name": part.name,
          "suite": place,
          "queries": theirs["queries"],
          "unit": part.unit,
          **_difference(found[pair]),
          "correlation": related.get(pair),
        }
      )
  return [row | {"loses_alignment": _loses_alignment(row)} for row in rows.values()]


def _parts(
  suite: str,
  reward: measures.Measure,
  values: Mapping[str, Sequence[measures.Measure]],
) -> Iterator[tuple[str, measures.Measure]]:
  """The measures that may explain a gain in reward, each with its suite.

  A suite that is not judged has the verdicts of the first suite that is.
  """
  for one in values[suite]:
    if one.model == reward.model and not one.unit and one.name != reward.name:
      yield suite, one
  for name in (measured.WORDS, measured.SELF_BLEU, ALIGNED, IMPRECISE):
    yield from [
      (place, one)
      for place in dict.fromkeys((suite, *values))
      for one in values[place]
      if one.name == name and not one.model
    ][:1]


def _summary(
  suites: Mapping[str, Any], suite: str, measure: measures.Measure
) -> dict[str, Any]:
  found = measures.find(
    {"suites": suites}, measure.name, suite=suite, model=measure.model
  )
  assert found, measure.name
  return found


def _difference(row: Mapping[str, Any]) -> dict[str, float]:
  return {key: row[key] for key in ("mean", "low", "high")}


def _correlations(
  reward: measures.Measure,
  part: measures.Measure,
  pairs: Sequence[Pair],
  config: ml_collections.ConfigDict,
) -> dict[Pair, dict[str, float]]:
  """The correlation by pair of systems; those that are not defined are left out."""
  shared = sorted(set(reward.shared()) & set(part.shared()))
  if not (shared and pairs):
    return {}
  reward_PN, part_PN = (
    np.array(
      [[of.values[two][q] - of.values[one][q] for q in shared] for one, two in pairs]
    )
    for of in (reward, part)
  )
  found = paired.correlations(reward_PN, part_PN, draws=config.draws, seed=config.seed)
  return {
    pair: dict(zip(("value", "low", "high"), row.tolist(), strict=True))
    for pair, row in zip(pairs, found, strict=True)
    if np.isfinite(row).all()
  }


def _loses_alignment(row: Mapping[str, Any]) -> bool | None:
  """Whether the reward's whole interval is above 0 and the aligned share's below."""
  aligned = [part for part in row["parts"] if part["name"] == ALIGNED]
  if not aligned:
    return None
  return row["low"] > 0 and aligned[0]["high"] < 0
