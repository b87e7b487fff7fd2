"""VBench's scores as they are printed: per cent, normalised, and by prompt."""

import statistics
from collections.abc import Mapping

from vpo_jax.evaluate.vbench import layout, prompts

# The least and the greatest score of a dimension (VBench, scripts/constant.py); for the
# others 0 and 1.
_RANGE = {
  "subject_consistency": (0.1462, 1.0),
  "background_consistency": (0.2615, 1.0),
  "temporal_flickering": (0.6293, 1.0),
  "motion_smoothness": (0.706, 0.9975),
  "scene": (0.0, 0.8222),
  "appearance_style": (0.0009, 0.2855),
  "temporal_style": (0.0, 0.364),
  "overall_consistency": (0.0, 0.364),
}
# Weights of the dimensions in the quality score (the same file).
_QUALITY = {
  "subject_consistency": 1.0,
  "background_consistency": 1.0,
  "temporal_flickering": 1.0,
  "motion_smoothness": 1.0,
  "aesthetic_quality": 1.0,
  "imaging_quality": 1.0,
  "dynamic_degree": 0.5,
}
_SEMANTIC = tuple(name for name in prompts.COUNTS if name not in _QUALITY)


def percent(score: float) -> float:
  """The raw score x 100, as in the paper's tables."""
  return 100 * score


def normalised(scores: Mapping[str, float]) -> dict[str, float]:
  """The leaderboard's scores by dimension: 0 for its least and 1 for its greatest.

  Args:
    scores: raw, from 0 to 1, by dimension.
  """
  found = {}
  for name, score in scores.items():
    least, greatest = _RANGE.get(name, (0.0, 1.0))
    found[name] = (score - least) / (greatest - least)
  return found


def totals(scores: Mapping[str, float]) -> dict[str, float]:
  """The leaderboard's quality, semantic and total score, from 0 to 1.

  They are empty unless all 16 dimensions are there: VBench's own program takes 0 for a
  dimension that is not, which looks like a low score.

  Args:
    scores: raw, from 0 to 1, by dimension.
  """
  if prompts.COUNTS.keys() - scores.keys():
    return {}
  of = normalised(scores)
  weighted = sum(weight * of[name] for name, weight in _QUALITY.items())
  quality = weighted / sum(_QUALITY.values())
  semantic = statistics.fmean(of[name] for name in _SEMANTIC)
  return {
    "quality": quality,
    "semantic": semantic,
    "total": (4 * quality + semantic) / 5,
  }


def by_prompt(values: Mapping[layout.Video, float]) -> dict[str, float]:
  """The mean over each prompt's videos: the sample of a bootstrap over prompts."""
  found: dict[str, list[float]] = {}
  for (text, _), value in values.items():
    found.setdefault(text, []).append(value)
  return {text: statistics.fmean(of) for text, of in found.items()}
