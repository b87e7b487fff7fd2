"""Stage choose: which candidates are worth a render, within a budget of videos."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

from vpo_jax import errors, records, stages
from vpo_jax.decoder import sharding, source
from vpo_jax.predict import predictor, strategies
from vpo_jax.runtime import console, processes
from vpo_jax.sample import lm


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What was predicted of a candidate, and whether it was chosen.

  Attributes:
    gain: its reward minus the mean of its query's candidates; None if nothing was
      predicted.
    deviation: the standard deviation of that.
  """

  query_id: str
  index: int
  gain: float | None
  deviation: float | None
  chosen: bool


def run(work: stages.Work) -> stages.Counts:
  """Writes candidates.jsonl with the chosen candidates alone, and predictions.jsonl.

  Candidates keep their indices, so that `score_videos` can read the file. Those that
  failed the text-level check, and those with the text of an earlier one, are not
  chosen.

  Raises:
    UserError: a setting is out of range, the predictor's ranks are not accurate enough,
      it was trained with another model, or no query has two candidates to choose.
  """
  config = work.config
  videos = budget(config)
  trained = None
  if "predictor" in work.inputs:
    trained = predictor.load(work.inputs["predictor"])
  strategy = _strategy(work, trained)
  rows = list(records.read(work.inputs["candidates"], records.Candidates))
  passed = None
  if "judged" in work.inputs:
    judged = records.read(work.inputs["judged"], records.Judged)
    passed = {(row.query_id, row.index) for row in judged if row.passed}
  options = [_options(row, passed) for row in rows]
  if not any(len(one) > 1 for one in options):
    raise errors.UserError(
      f"{work.name}: no query of {work.inputs['candidates']} has two different"
      " candidates to choose from"
    )
  predictions = [dict.fromkeys(one, (None, None)) for one in options]
  if trained and strategy != "random":
    predictions = _predict(work, rows, options, trained)
  ranked = [
    strategies.rank(strategy, config.seed, row.query_id, one)
    for row, one in zip(rows, predictions, strict=True)
  ]
  prompts = videos // config.videos_per_prompt
  chosen = strategies.choose(ranked, prompts, config.per_query)
  if processes.first():
    records.write(work.folder / "candidates.jsonl", _kept(rows, chosen))
    records.write(
      work.folder / "predictions.jsonl",
      [
        Prediction(row.query_id, index, gain, deviation, index in taken)
        for row, one, taken in zip(rows, predictions, chosen, strict=True)
        for index, (gain, deviation) in one.items()
      ],
    )
  count = sum(map(len, chosen))
  return {
    "queries": len(rows),
    "candidates": sum(len(row.candidates) for row in rows),
    "could_be_chosen": sum(map(len, options)),
    "strategy": strategy,
    "chosen_queries": sum(map(bool, chosen)),
    "chosen": count,
    "videos": count * config.videos_per_prompt,
  }


def budget(config: stages.Config) -> int:
  """The number of videos that may be rendered.

  Raises:
    UserError: the config names none or both of `videos` and `gpu_hours`, or a value is
      out of range.
  """
  if config.per_query < 2:
    raise errors.UserError(
      f"config.per_query={config.per_query}: must be at least 2, a pair"
    )
  if config.videos_per_prompt < 1:
    raise errors.UserError(
      f"config.videos_per_prompt={config.videos_per_prompt}: must be at least 1"
    )
  if (config.videos > 0) == (config.gpu_hours > 0):
    raise errors.UserError("choose: set either config.videos or config.gpu_hours")
  if config.gpu_hours > 0 and config.seconds_per_video <= 0:
    raise errors.UserError(
      f"config.seconds_per_video={config.seconds_per_video}: config.gpu_hours needs the"
      " GPU seconds of one video"
    )
  videos = config.videos
  if config.gpu_hours > 0:
    videos = math.floor(config.gpu_hours * 3600 / config.seconds_per_video)
  if videos < 2 * config.videos_per_prompt:
    raise errors.UserError(
      f"choose: the budget is {videos} videos; a pair needs"
      f" {2 * config.videos_per_prompt}"
    )
  return videos


def _strategy(work: stages.Work, trained: predictor.Predictor | None) -> str:
  """The strategy, or the fallback if the predictor cannot be trusted.

  Raises:
    UserError: there is no such strategy or fallback, or the predictor's ranks are not
      accurate enough and there is no fallback.
  """
  config = work.config
  if config.strategy not in strategies.NAMES:
    raise errors.UserError(
      f"config.strategy={config.strategy!r}: must be one of"
      f" {', '.join(strategies.NAMES)}"
    )
  if config.fallback not in ("", "random"):
    raise errors.UserError(f"config.fallback={config.fallback!r}: must be '' or random")
  if trained is None:
    return "random"
  accuracy = trained.accuracy
  if accuracy >= config.min_accuracy:  # False if it is NaN
    return config.strategy
  problem = (
    f"{work.inputs['predictor']}: in cross-validation it ranked {accuracy:.2f} of the"
    f" pairs rightly, less than config.min_accuracy={config.min_accuracy}"
  )
  if math.isnan(accuracy):
    problem = f"{work.inputs['predictor']}: no pair to measure its accuracy"
  if not config.fallback:
    raise errors.UserError(f"{problem}; config.fallback=random chooses at random")
  console.say(f"{work.name}: {problem}; choosing at random")
  return "random"


def _options(
  row: records.Candidates, passed: set[tuple[str, int]] | None
) -> dict[int, str]:
  """The different prompts of a query that may be rendered, by index."""
  found: dict[str, int] = {}
  for candidate in row.candidates:
    if passed is None or (row.query_id, candidate.index) in passed:
      found.setdefault(candidate.prompt, candidate.index)
  return {index: prompt for prompt, index in found.items()}


def _predict(
  work: stages.Work,
  rows: Sequence[records.Candidates],
  options: Sequence[dict[int, str]],
  trained: predictor.Predictor,
) -> list[strategies.Predictions]:
  """The predictions for each query's options."""
  config = work.config
  policy = lm.load(
    str(work.inputs["model"]),
    precision=config.precision,
    instruction=config.instruction,
    mesh=sharding.make_mesh(config.mesh, jax.local_devices()),
  )
  trained.check(policy)
  queries = [row.query for row in rows]
  prompts = [list(one.values()) for one in options]
  with console.progress(work.name, sum(map(len, prompts))) as advance:
    found = trained.predict(policy, queries, prompts, advance)

  def known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

  return [
    {
      index: (known(mean), known(deviation))
      for index, mean, deviation in zip(one, *arrays, strict=True)
    }
    for one, arrays in zip(options, found, strict=True)
  ]


def _kept(
  rows: Sequence[records.Candidates], chosen: Sequence[set[int]]
) -> list[records.Candidates]:
  """The rows with the chosen candidates alone."""
  return [
    dataclasses.replace(
      row, candidates=tuple(one for one in row.candidates if one.index in taken)
    )
    for row, taken in zip(rows, chosen, strict=True)
    if taken
  ]


def _inputs(config: stages.Config) -> stages.Inputs:
  candidates = (
    stages.Input("candidates", "sample/candidates.jsonl"),
    stages.Input("judged", "text_pairs/judged.jsonl", optional=True),
  )
  if config.strategy == "random":
    return candidates
  named = [stages.Input("instruction")] if config.instruction else []
  return (
    *candidates,
    stages.Input(
      "predictor", f"train_predictor/{predictor.FILE}", resolve=predictor.find
    ),
    stages.Input("model", "train_sft/model", resolve=source.resolve),
    *named,
  )


STAGE = stages.Stage(
  name="choose",
  run=run,
  inputs=_inputs,
  execution_keys=("mesh.*",),
  uses_jax=True,
)
