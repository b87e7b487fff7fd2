"""The time, money and disk space of a full run, extrapolated from a few queries.

Each stage's work is proportional to a number that the config decides: queries, prompts,
videos or training examples. One-time work (loading, compiling) is not multiplied where
the stage measures its rate. Elsewhere it is multiplied too, so that a forecast errs on
the high side.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import json_input, pipeline, stages
from vpo_jax.evaluate import setup, suites, systems
from vpo_jax.feedback import render_videos, score_videos
from vpo_jax.preflight import checks

_GB = 1e9


@dataclasses.dataclass(frozen=True)
class Forecast:
  """The cost of one stage of the full run.

  Attributes:
    hours: wall-clock time.
    gpu_hours: of rendering and scoring, over all workers.
    dollars: for the teacher or judge; None if the model's price is unknown.
    disk_gb: what stays on the disk.
  """

  hours: float = 0.0
  gpu_hours: float = 0.0
  dollars: float | None = 0.0
  disk_gb: float = 0.0


@dataclasses.dataclass(frozen=True)
class Measured:
  """What the preflight measured of one stage."""

  config: ml_collections.ConfigDict
  counts: stages.Counts
  seconds: float
  folder: epath.Path


def forecast(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, Measured],
  workers: Mapping[str, int],
  workdir: epath.Path,
) -> dict[str, Forecast]:
  """The forecast of each stage that was measured, and of each variant.

  Args:
    config: of the full run.
    measured: by stage; stages that failed are missing.
    workers: the number of rendering workers, by part (`checks.video_models`).
    workdir: of the preflight; its store has the rendered videos.
  """
  bytes_per_video = _bytes_per_video(workdir / "store")
  sizes = config.curate.sizes
  prompts = (sizes.dpo_general + sizes.dpo_safety) * config.sample.num_candidates
  found = {}
  for name, one in measured.items():
    counts = one.counts
    if name == "curate":
      found[name] = Forecast(one.seconds / 3600, dollars=_safety(config, measured))
    elif name == "build_sft":
      found[name] = _asked(one, _queries_asked(one), _sft_queries(config))
    elif name == "text_pairs":
      found[name] = _asked(one, counts["candidates"], prompts)
    elif name == "sample":
      found[name] = Forecast(_sampling(one, prompts) / 3600)
    elif name in ("train_sft", config.export.trained):
      found[name] = _training(
        one,
        _examples(name, config, measured),
        config[name],
        config.train_sft.model,
      )
    elif name == "score_videos":
      share = counts["passed_text_check"] / counts["candidates"]
      videos = share * prompts * config.score_videos.videos_per_prompt
      found[name] = _videos(one, videos, workers["score_videos"], bytes_per_video)
    elif name == "evaluate":
      found[name] = _evaluation(one, config, measured, workers, bytes_per_video)
    else:
      found[name] = Forecast(one.seconds / 3600)
  for name, steps in pipeline.variant_steps(config, workdir).items():
    if parts := _variant(steps, found, measured):
      found[f"+ {name}"] = total(parts)
  return found


def _variant(
  steps: Sequence[pipeline.Step],
  found: Mapping[str, Forecast],
  measured: Mapping[str, Measured],
) -> dict[str, Forecast]:
  """The forecast of each stage that a variant runs; only new videos are counted."""
  parts = {}
  for stage, config in steps:
    one = found.get(stage.name)
    if one is not None and stage.name == "score_videos":
      counts = measured["score_videos"].counts
      wanted = counts["candidates"] if not config.text_check else 0
      more = max(wanted - counts["passed_text_check"], 0) / counts["passed_text_check"]
      one = Forecast(one.hours * more, one.gpu_hours * more, 0.0, one.disk_gb * more)
    if one is not None:
      parts[stage.name] = one
  return parts


def _queries_asked(one: Measured) -> int:
  return one.counts["examples"] + one.counts["set_aside"]


def _safety(
  config: ml_collections.ConfigDict, measured: Mapping[str, Measured]
) -> float | None:
  """Dollars for judging candidates for unsafe queries, at a critique's price."""
  if not config.curate.safety.judge:
    return 0.0
  if "text_pairs" not in measured:
    return None
  sizes = config.curate.sizes
  wanted = sizes.sft_safety + sizes.dpo_safety + sizes.test_safety
  counts = measured["text_pairs"].counts
  if counts.get("cost_usd") is None:
    return None
  return counts["cost_usd"] / counts["calls"] * wanted * config.curate.safety.margin


def _bytes_per_video(store: epath.Path) -> float:
  sizes = [path.stat().length for path in store.glob("videos/*/*.mp4")]
  return statistics.fmean(sizes) if sizes else 0.0


def _sft_queries(config: ml_collections.ConfigDict) -> int:
  return config.curate.sizes.sft_general + config.curate.sizes.sft_safety


def _examples(
  name: str, config: ml_collections.ConfigDict, measured: Mapping[str, Measured]
) -> float:
  """The number of SFT examples, pairs or groups in the full run."""
  if name == "train_sft":
    asked = measured["build_sft"]
    return _sft_queries(config) * asked.counts["examples"] / _queries_asked(asked)
  sizes = config.curate.sizes
  queries = measured["sample"].counts["queries"]
  made = "groups" if name == "train_groups" else "merge_pairs"
  pairs = measured[made].counts
  per_query = (pairs["train"] + pairs["heldout"]) / queries
  return (sizes.dpo_general + sizes.dpo_safety) * per_query


def _asked(one: Measured, rows: int, wanted: int) -> Forecast:
  """Calls to a server, from the latency of a row and the number of parallel rows."""
  parallel = one.config.teacher.parallel
  latency = one.seconds * min(parallel, rows) / rows
  cost = one.counts.get("cost_usd")
  dollars = None if cost is None else cost * wanted / rows
  return Forecast(latency * wanted / parallel / 3600, dollars=dollars)


def _sampling(one: Measured, wanted: int) -> float:
  """Seconds. A decoding step takes as long for few candidates as for all slots."""
  counts, slots = one.counts, one.config.slots
  rate = counts["new_tokens_per_second"]
  decoding = counts["new_tokens"] / rate if rate else one.seconds
  rounds = -(-counts["candidates"] // slots)
  return one.seconds - decoding + decoding / rounds * wanted / slots


def _training(
  one: Measured, examples: float, config: ml_collections.ConfigDict, policy: str
) -> Forecast:
  """Training time at the rate of the steps after the first, which compiles."""
  rows = [row.value for row in json_input.rows(one.folder / "metrics.jsonl")]
  rates = [row["examples_per_second"] for row in rows if "examples_per_second" in row]
  seconds = examples * config.epochs / statistics.median(rates[1:] or rates)
  disk = checks.checkpoint_bytes(config, policy)
  return Forecast((one.seconds + seconds) / 3600, disk_gb=disk / _GB)


def _videos(
  one: Measured, videos: float, workers: int, bytes_per_video: float
) -> Forecast:
  counts = one.counts
  done = max(counts["rendered"], 1), max(counts.get("scored", 0), 1)
  render, score = counts["render_seconds"], counts.get("score_seconds", 0.0)
  gpu_hours = videos * (render / done[0] + score / done[1]) / 3600
  disk = videos * bytes_per_video / _GB
  return Forecast(gpu_hours / workers, gpu_hours, disk_gb=disk)


def _evaluation(
  one: Measured,
  config: ml_collections.ConfigDict,
  measured: Mapping[str, Measured],
  workers: Mapping[str, int],
  bytes_per_video: float,
) -> Forecast:
  """Sampling, judging and rendering of every system's prompts, for all suites."""
  found = json_input.value(one.folder / "results.json")["suites"]
  parts = {
    suite.name: _suite(
      suite, found[suite.name], one, config, measured, workers, bytes_per_video
    )
    for suite in suites.parse(config.evaluate.suites)
  }
  return total(parts)


def _suite(
  suite: suites.Suite,
  found: Mapping[str, Any],
  one: Measured,
  config: ml_collections.ConfigDict,
  measured: Mapping[str, Measured],
  workers: Mapping[str, int],
  bytes_per_video: float,
) -> Forecast:
  """The forecast of one suite; `found` is its part of the preflight's results.json."""
  queries = found["all_queries"]
  inputs = suite.inputs(config.evaluate)
  if any(
    row.default and not stages.named_input(config.evaluate, row.key) for row in inputs
  ):
    # The suite's queries are made by the run, which curates more than the preflight.
    queries = config.curate.sizes.test_general + config.curate.sizes.test_safety
  chosen = [
    row for row in systems.parse(one.config.systems) if row.name in found["systems"]
  ]
  models = sum(row.is_model for row in chosen)
  hours = models * _sampling(measured["sample"], queries) / 3600
  dollars: float | None = 0.0
  if suite.judged:
    judged = _asked(measured["text_pairs"], 1, 1)
    calls = measured["text_pairs"].counts["candidates"]
    dollars = judged.dollars and judged.dollars / calls * queries * len(chosen)
  place = one.folder.parent / "suites" / suite.name
  written = [_writing(systems.folder(place, row.name), row, queries) for row in chosen]
  known = [one for one in (dollars, *written) if one is not None]
  dollars = sum(known) if len(known) == 1 + len(written) else None
  gpu_hours = disk = 0.0
  for name, video in config.evaluate.video_models.items():
    if not (suite.rendered and setup.is_named(video)):
      continue
    counts = _video_counts(one.folder / suite.name / name, suite)
    each = suite.videos_per_prompt
    number = each(config.evaluate) if each else video.videos_per_prompt
    made = _videos(
      dataclasses.replace(one, counts=counts),
      queries * len(chosen) * number,
      workers.get(f"evaluate.{name}", workers["score_videos"]),
      bytes_per_video,
    )
    hours, gpu_hours = hours + made.hours, gpu_hours + made.gpu_hours
    disk += made.disk_gb
  return Forecast(hours, gpu_hours, dollars, disk)


def _writing(folder: epath.Path, row: systems.System, queries: int) -> float | None:
  """Dollars for an LLM that writes a system's prompts; None if its price is unknown."""
  made = folder / "again" if row.of else folder
  counts = stages.finished_counts(made / systems.PROMPTS_FOLDER) or {}
  if "cost_usd" not in counts:
    return 0.0
  cost = counts["cost_usd"]
  return None if cost is None else cost / counts["queries"] * queries


def _video_counts(folder: epath.Path, suite: suites.Suite) -> dict[str, Any]:
  """The counts of the stage that made a suite's videos."""
  stage = score_videos.STAGE if suite.scored else render_videos.STAGE
  return json_input.value(folder / stage.name / stages.MANIFEST)["counts"]


def total(found: Mapping[str, Forecast]) -> Forecast:
  """The sum; dollars are None if some are unknown."""
  dollars = [one.dollars for one in found.values()]
  return Forecast(
    sum(one.hours for one in found.values()),
    sum(one.gpu_hours for one in found.values()),
    None if None in dollars else sum(d or 0.0 for d in dollars),
    sum(one.disk_gb for one in found.values()),
  )
