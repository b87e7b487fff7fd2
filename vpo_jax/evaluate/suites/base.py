"""What a suite is: queries, how many videos they get, and what is measured."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import records, stages
from vpo_jax.evaluate import measures, systems

# A rendered video; a scored one has the same fields and more.
Made = records.Video | records.Scored
# Videos by video model, system and query id.
Videos = Mapping[str, Mapping[str, Mapping[str, Sequence[Made]]]]
Scores = Mapping[str, Mapping[str, Mapping[str, Sequence[records.Scored]]]]


@dataclasses.dataclass(frozen=True)
class Item:
  """A query of a suite.

  Attributes:
    labels: for tables by class, such as {"category": ("Story",)}.
  """

  query: records.Query
  labels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Found:
  """What the systems and video models made of a suite's queries.

  Attributes:
    config: of the stage evaluate.
    chosen: the systems that have prompts for the suite.
    items: by query id.
    rows: the queries for which all systems have a prompt; candidate k is system k's.
    verdicts: the judge's, by system and query id; empty unless the suite is judged.
    videos: all rendered videos; empty unless the suite renders.
    scores: those that were scored; empty unless the suite is scored.
    folder: the suite's folder in the stage's, which a later run may write anew.
    place: the suite's folder for what is costly to make again.
    work: the stage's.
  """

  config: ml_collections.ConfigDict
  chosen: Sequence[systems.System]
  items: Mapping[str, Item]
  rows: Sequence[records.Candidates]
  verdicts: Mapping[str, Mapping[str, str]]
  videos: Videos
  scores: Scores
  folder: epath.Path
  place: epath.Path
  work: stages.Work


@dataclasses.dataclass(frozen=True)
class Suite:
  """A benchmark: one of `config.suites`.

  Attributes:
    name: in `config.suites`, and of the suite's part of the config.
    title: for readers.
    load: the queries; raises UserError, before anything is computed.
    measures: functions whose measures are tabulated together.
    inputs: files that `load` reads, for the stage's declaration.
    details: more for results.json, such as scores on another scale.
    judged: whether the judge gives verdicts on the prompts.
    rendered: whether the prompts are rendered.
    scored: whether the config's scorer scores the videos.
    videos_per_prompt: how many videos each prompt gets; None is the video model's.
  """

  name: str
  title: str
  load: Callable[[ml_collections.ConfigDict, Mapping[str, epath.Path]], list[Item]]
  measures: Sequence[Callable[[Found], list[measures.Measure]]]
  inputs: Callable[[ml_collections.ConfigDict], Sequence[stages.Input]] = (
    lambda config: ()
  )
  details: Callable[[Found], dict[str, Any]] | None = None
  judged: bool = False
  rendered: bool = True
  scored: bool = True
  videos_per_prompt: Callable[[ml_collections.ConfigDict], int] | None = None
