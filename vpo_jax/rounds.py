"""Rounds: sample from the current model, judge, render, score, train, and again.

Every round is the pipeline's own stages in `<workdir>/rounds/<k>`, so a killed run
continues at the stage where it was. With the paper's pairs this is iterative DPO; with
`export.trained=train_groups` and `train_groups.loss=grpo` it is GRPO.
"""

import dataclasses
import math
import time
from collections.abc import Iterator

import ml_collections
import numpy as np
import rich.box
import rich.table
from etils import epath

from vpo_jax import errors, files, pipeline, records, stages
from vpo_jax.curate import parts
from vpo_jax.evaluate import paired
from vpo_jax.feedback import bridge, groups, pairing
from vpo_jax.predict import choose, train_predictor
from vpo_jax.runtime import console
from vpo_jax.serve import export
from vpo_jax.train import divergence, setup

Rewards = dict[str, float]
FOLDER = "rounds"


@dataclasses.dataclass(frozen=True)
class Round:
  """The outcome of a round, measured on the held-out queries.

  Attributes:
    number: 0 is the SFT model.
    model: the model's folder.
    videos: that were scored for training in this round.
    reward: mean over the held-out queries.
    gain: mean difference to the best round before it; None for round 0.
    low, high: 95 % interval of the gain, over queries.
    kl: KL to the SFT model, in nats of a prompt.
    note: why the round is not used, if it is not.
  """

  number: int
  model: str
  videos: int
  reward: float
  gain: float | None = None
  low: float | None = None
  high: float | None = None
  kl: float = 0.0
  note: str = ""


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> list[Round]:
  """Runs rounds until one of the limits of `config.rounds` is reached.

  A round starts from the best model so far. The rounds end when `patience` of them in a
  row gained at most `min_gain` on the held-out queries, or when the KL to the SFT model
  exceeds `max_kl`. The best model is exported to `<workdir>/rounds/vpo`, and the table
  is `<workdir>/rounds/rounds.json`.

  Args:
    config: as of `pipeline.run`, with `rounds`, `parts`, `choose`, `train_predictor`
      and `divergence` (configs/rounds.py).

  Raises:
    UserError: as the stages raise it, or a limit is out of range.
  """
  workdir = epath.Path(workdir)
  _check(config)
  for name in ("curate", "build_sft", "train_sft"):
    stages.run(pipeline.STAGES[name], config[name], workdir, own_process=True)
  work = _Work(config, workdir)
  work.split()
  sft = str(workdir / "train_sft" / "model")
  rewards = work.measure(0, sft)
  found = [Round(0, sft, 0, _mean(rewards))]
  best, best_rewards, without_gain = found[0], rewards, 0
  for number in range(1, config.rounds.count + 1):
    began = time.monotonic()
    videos = work.train(number, best.model)
    model = str(work.folder(number) / config.export.trained / "model")
    rewards = work.measure(number, model)
    kl = work.divergence(number, model)
    this = Round(number, model, videos, _mean(rewards), kl=kl)
    this = _compare(this, best_rewards, rewards)
    grew = this.gain is not None and this.gain > config.rounds.min_gain
    without_gain = 0 if grew else without_gain + 1
    if kl > config.rounds.max_kl:
      this = dataclasses.replace(this, note=f"KL over {config.rounds.max_kl:g}")
    elif not grew:
      this = dataclasses.replace(this, note="no gain")
    else:
      best, best_rewards = this, rewards
    found.append(this)
    _write(workdir, found, best)
    minutes = (time.monotonic() - began) / 60
    console.say(f"round {number}: reward {this.reward:.3f}, {minutes:.0f} min")
    if kl > config.rounds.max_kl or without_gain >= config.rounds.patience:
      break
  work.export(best.model)
  _show(found, best)
  return found


class _Work:
  """The stages of the rounds of one workdir."""

  def __init__(self, config: ml_collections.ConfigDict, workdir: epath.Path):
    self._config = config
    self._workdir = workdir
    self._sft = str(workdir / "train_sft" / "model")

  def folder(self, number: int) -> epath.Path:
    return self._workdir / FOLDER / str(number)

  def split(self) -> None:
    config = _copy(self._config.parts)
    config.count = self._config.rounds.count
    config.queries = config.queries or str(self._workdir / "curate" / "dpo.jsonl")
    self._run(parts.STAGE, config, self._workdir / FOLDER)

  def train(self, number: int, model: str) -> int:
    """Runs a round's stages; returns the number of videos that were scored."""
    folder = self.folder(number)
    counts = {
      stage.name: self._run(stage, config, folder)
      for stage, config in self._steps(number, model)
    }
    return counts["score_videos"]["scored"]

  def measure(self, number: int, model: str) -> Rewards:
    """The reward of a model's prompt for each held-out query that has a video."""
    config = _copy(self._config)
    config.sample.update(
      queries=str(self._workdir / FOLDER / "parts" / "heldout.jsonl"),
      model=model,
      num_candidates=1,
      temperature=config.export.temperature,
      top_p=config.export.top_p,
    )
    config.score_videos.text_check = False
    folder = self.folder(number) / "heldout"
    for name in ("sample", "score_videos"):
      self._run(pipeline.STAGES[name], config[name], folder)
    path = folder / "score_videos" / "scores.jsonl"
    rows = pairing.mean_over_seeds([*records.read(path, records.Scored)])
    return {row.query_id: row.reward for row in rows}

  def divergence(self, number: int, model: str) -> float:
    config = _copy(self._config.divergence)
    config.update(model=model, reference=self._sft)
    folder = self.folder(number) / "heldout"
    return self._run(divergence.STAGE, config, folder)["kl"]

  def export(self, model: str) -> None:
    config = _copy(self._config.export)
    config.model = model
    self._run(export.STAGE, config, self._workdir / FOLDER)

  def _steps(
    self, number: int, model: str
  ) -> Iterator[tuple[stages.Stage, ml_collections.ConfigDict]]:
    """The stages of a round, each with its config."""
    config = _copy(self._config)
    budget = pipeline.has_budget(config)
    learned = config.choose.strategy != "random"
    config.sample.update(
      queries=str(self._workdir / FOLDER / "parts" / f"{number}.jsonl"),
      model=model,
      seed=config.sample.seed + number,
    )
    yield pipeline.STAGES["sample"], config.sample
    yield pipeline.STAGES["text_pairs"], config.text_pairs
    if budget:
      config.choose.videos_per_prompt = config.score_videos.videos_per_prompt
      # Nothing is scored before the first round, so its choice is random.
      if number == 1:
        config.choose.strategy = "random"
      elif learned:
        before = self.folder(number - 1) / train_predictor.STAGE.name
        config.choose.update(model=self._sft, predictor=str(before))
      yield choose.STAGE, config.choose
      config.score_videos.chosen = True
    yield pipeline.STAGES["score_videos"], config.score_videos
    trained = config.export.trained
    config[trained].model = model
    for stage in pipeline.METHODS[trained]:
      yield stage, config[stage.name]
    if budget and learned and number < config.rounds.count:
      if groups.STAGE not in pipeline.METHODS[trained]:
        yield groups.STAGE, config.groups
      config.train_predictor.model = self._sft
      if number > 1:
        before = self.folder(number - 1) / train_predictor.STAGE.name
        config.train_predictor.earlier = str(before / train_predictor.SCORED)
      yield train_predictor.STAGE, config.train_predictor

  def _run(
    self,
    stage: stages.Stage,
    config: ml_collections.ConfigDict,
    folder: epath.Path,
  ) -> stages.Counts:
    return stages.run(stage, config, folder, self._workdir, own_process=True)


def _check(config: ml_collections.ConfigDict) -> None:
  for key in ("count", "patience"):
    if config.rounds[key] < 1:
      raise errors.UserError(
        f"config.rounds.{key}={config.rounds[key]}: must be at least 1"
      )
  if config.rounds.max_kl <= 0:
    raise errors.UserError(
      f"config.rounds.max_kl={config.rounds.max_kl}: must be greater than 0"
    )
  pipeline.stages_for(config)
  # Before the earlier stages work for hours.
  bridge.check(config.score_videos)
  setup.check_model(config.train_sft.model, config.train_sft.reasoning)


def _copy(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  return config.copy_and_resolve_references()


def _mean(rewards: Rewards) -> float:
  return math.fsum(rewards.values()) / len(rewards)


def _compare(this: Round, before: Rewards, after: Rewards) -> Round:
  """The round with its gain on the queries that both have a video of."""
  both = sorted(before.keys() & after.keys())
  if not both:
    raise errors.UserError(
      f"round {this.number}: no held-out query has a video of this and the best round"
    )
  one, two = (np.array([[row[i] for i in both]]) for row in (before, after))
  [[low, high]] = paired.intervals(one, two)
  gain = float((two - one).mean())
  return dataclasses.replace(this, gain=gain, low=float(low), high=float(high))


def _write(workdir: epath.Path, found: list[Round], best: Round) -> None:
  rows = [dataclasses.asdict(one) for one in found]
  files.write_json(
    workdir / FOLDER / "rounds.json", {"best": best.number, "rounds": rows}
  )


def _show(found: list[Round], best: Round) -> None:
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
  for title in ("round", "videos", "reward", "gain (95 % interval)", "KL", ""):
    table.add_column(title, justify="right")
  for one in found:
    gain = ""
    if one.gain is not None:
      gain = f"{one.gain:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
    note = one.note or ("exported" if one is best else "")
    table.add_row(
      str(one.number) if one.number else "SFT",
      str(one.videos),
      f"{one.reward:.3f}",
      gain,
      f"{one.kl:.1f}",
      note,
    )
  console.console.print(table)
