"""VBench: the paper's four dimensions, or others (paper, tables 1, 3 and 5).

VBench runs in its own interpreter (configs/vbench.py) on videos that are laid out under
its names. Its results are kept in `suites/vbench/scores/MODEL/SYSTEM`, so that another
evaluation of the same videos does not score them again.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import buckets, errors, records
from vpo_jax.evaluate import measures
from vpo_jax.evaluate.suites import base
from vpo_jax.evaluate.vbench import installation, layout, prompts, results, run, scores
from vpo_jax.feedback import store as stores


def load(
  config: ml_collections.ConfigDict, inputs: Mapping[str, epath.Path]
) -> list[base.Item]:
  """The prompts of the chosen dimensions, from VBench's own file.

  Raises:
    UserError: VBench is not installed where the config says, or a setting is wrong.
  """
  return [
    base.Item(
      records.Query(records.row_id(prompt.text), prompt.text),
      {"dimension": prompt.dimensions},
    )
    for prompt in _prompts(config)
  ]


def _prompts(config: ml_collections.ConfigDict) -> list[prompts.Prompt]:
  own = config.vbench
  info = installation.find(own).info
  return prompts.read(info, own.dimensions, own.prompts_per_dimension)


def dimensions(found: base.Found) -> list[measures.Measure]:
  """Each dimension's score per prompt, the mean over the prompt's videos.

  Raises:
    UserError: videos are missing, or VBench fails.
  """
  made = []
  for model in found.videos:
    by_system = _score(found, model)
    for dimension in found.config.vbench.dimensions:
      values = {
        name: {
          records.row_id(text): value
          for text, value in scores.by_prompt(of[dimension].values).items()
        }
        for name, of in by_system.items()
      }
      made.append(measures.Measure(title(dimension), values, model, unit="%"))
  return made


def title(dimension: str) -> str:
  """The paper's name of a dimension: "human action"."""
  return dimension.replace("_", " ")


def details(found: base.Found) -> dict[str, Any]:
  """VBench's own scores, raw and on the leaderboard's scale, by model and system."""
  by_model: dict[str, Any] = {}
  for model in found.videos:
    by_model[model] = {
      name: {
        "raw": {d: result.score for d, result in of.items()},
        "normalised": scores.normalised({d: result.score for d, result in of.items()}),
        "totals": scores.totals({d: result.score for d, result in of.items()}),
      }
      for name, of in _score(found, model).items()
    }
  return {
    "vbench": installation.find(found.config.vbench).name,
    "vbench_scores": by_model,
  }


def _score(found: base.Found, model: str) -> dict[str, dict[str, results.Result]]:
  """VBench's results by system and dimension; finished ones are read again."""
  own = found.config.vbench
  asked = {row.query_id for row in found.rows}
  wanted = [one for one in _prompts(found.config) if records.row_id(one.text) in asked]
  vbench = installation.find(own)
  store = stores.Store(
    found.config.video_models[model].bridge.store or found.work.store
  )
  place = pathlib.Path(buckets.scratch(found.place / "scores" / model))
  made = {}
  for name, by_query in found.videos[model].items():
    videos = _files([row for rows in by_query.values() for row in rows], store)
    layout.check(videos, wanted, own.videos_per_prompt)
    folder = layout.lay_out(videos, place / name / "videos")
    made[name] = run.evaluate(
      vbench, folder, wanted, own.videos_per_prompt, place / name / "results"
    )
  return made


def _files(
  rows: list[base.Made], store: stores.Store
) -> dict[layout.Video, pathlib.Path]:
  """The videos' files by VBench's prompt, which is the query, and number."""
  store.fetch(row.video_id for row in rows)
  videos = {}
  for row in rows:
    video = store.local.find_video(row.video_id)
    if video is None:
      raise errors.UserError(f"store: video {row.video_id} is missing or damaged")
    videos[row.query, row.seed] = store.local.root / video.path
  return videos


SUITE = base.Suite(
  name="vbench",
  title="VBench",
  load=load,
  measures=(dimensions,),
  details=details,
  scored=False,
  videos_per_prompt=lambda config: config.vbench.videos_per_prompt,
)
