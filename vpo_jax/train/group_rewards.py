"""The number by which the responses of a group are compared in training.

The reward of the videos, and what the judge says of the text: as a constraint (a flawed
response never outranks one that passed) or as a weighted term.
"""

import math
import statistics

import ml_collections

from vpo_jax import errors, records

FEEDBACK = ("constraint", "term", "none")


def check(config: ml_collections.ConfigDict) -> None:
  """Raises a UserError for a value that has no meaning."""
  if config.text_feedback not in FEEDBACK:
    raise errors.UserError(
      f"config.text_feedback={config.text_feedback!r}: must be one of"
      f" {', '.join(FEEDBACK)}"
    )
  if config.text_weight < 0:
    raise errors.UserError(
      f"config.text_weight={config.text_weight}: must be at least 0"
    )
  if config.threshold != "mean":
    try:
      float(config.threshold)
    except ValueError:
      raise errors.UserError(
        f"config.threshold={config.threshold!r}: must be mean or a number"
      ) from None


def rewards(
  group: records.Group, config: ml_collections.ConfigDict
) -> list[tuple[str, float]]:
  """The prompts to train on with their rewards; NaN if nothing is known of one.

  A flawed candidate is usually not rendered. With the constraint its reward is
  `text_weight` below the lowest of those that passed, or its own if that is lower; if
  none of those that passed has a reward, they have 0. With the term `text_weight` is
  subtracted from its own. With `config.refined` the constraint also takes the judge's
  refinement of a flawed candidate, with the mean reward of those that passed.
  """
  if config.text_feedback == "none":
    return [(one.prompt, _known(one.reward)) for one in group.responses]
  if config.text_feedback == "term":
    weight = config.text_weight
    return [
      (one.prompt, _known(one.reward) - weight * (one.passed is False))
      for one in group.responses
    ]
  passed = [one for one in group.responses if one.passed is not False]
  known = [one.reward for one in passed if one.reward is not None]
  lowest = min(known, default=0.0)
  mean = math.fsum(known) / len(known) if known else 0.0
  found = {}
  for one in group.responses:
    if one.passed is False:
      below = lowest - config.text_weight
      found[one.prompt] = below if one.reward is None else min(one.reward, below)
    elif known:
      found[one.prompt] = _known(one.reward)
    else:
      found[one.prompt] = 0.0
  if config.refined:
    for one in group.responses:
      if one.refined is not None:
        found.setdefault(one.refined, mean)
  return list(found.items())


def desirable(
  group: records.Group, config: ml_collections.ConfigDict
) -> list[tuple[str, float]]:
  """The prompts to train on: 1 if desirable, 0 if not, NaN if nothing is known of one.

  A prompt is desirable if its number in `rewards` is at least `config.threshold`, or
  at least the mean of the query's if that is "mean". With the constraint a flawed
  candidate is never desirable, and its refinement is.
  """
  found = dict(rewards(group, config))
  flawed = {
    one.prompt
    for one in group.responses
    if config.text_feedback == "constraint" and one.passed is False
  }
  sampled = {one.prompt for one in group.responses} - flawed
  known = [found[text] for text in sampled if not math.isnan(found.get(text, math.nan))]
  if config.threshold != "mean":
    threshold = float(config.threshold)
  else:  # rounding may put the mean of equal numbers above them
    threshold = min(statistics.fmean(known), max(known)) if known else 0.0

  def label(text: str, value: float) -> float:
    if math.isnan(value):
      return math.nan
    # What was not sampled is a refinement.
    passed = text not in sampled or value >= threshold
    return float(text not in flawed and passed)

  return [(text, label(text, value)) for text, value in found.items()]


def _known(reward: float | None) -> float:
  return math.nan if reward is None else reward
