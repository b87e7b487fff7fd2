"""What the report shows of a suite's queries: texts, values and videos by system."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vpo_jax import records
from vpo_jax.evaluate import measures, suites, systems
from vpo_jax.evaluate.html import changes, choose
from vpo_jax.evaluate.suites import base
from vpo_jax.feedback import identity, score_videos

_DIGITS = 6  # of a value


def of_suite(
  suite: str,
  found: base.Found,
  values: Sequence[measures.Measure],
  *,
  videos: int,
) -> dict[str, Any]:
  """The content of the report's file for one suite.

  Args:
    suite: its name.
    values: the suite's measures.
    videos: how many queries per video model have their videos included; 0 is all.

  Returns: the suite's systems, measures and video models, what made the prompts and the
    videos, and one row per query that has a prompt from every system. A row's `values`
    have one list per measure, and one number or None per system in it.
  """
  names = [one.name for one in found.chosen]
  plain = [one.name for one in found.chosen if not one.of]
  pair = (plain[0], plain[-1] if len(plain) > 1 else names[-1])
  included = {
    model: choose.queries(
      [row.query_id for row in found.rows],
      [one for one in values if one.model in ("", model)],
      pair,
      videos,
    )
    for model in found.videos
  }
  return {
    "suite": suite,
    "title": suites.ALL[suite].title,
    "systems": names,
    "pair": list(pair),
    "measures": [
      {key: getattr(one, key) for key in ("name", "model", "unit", "better")}
      for one in values
    ],
    "models": {model: _model(found, model) for model in found.videos},
    "sources": [_source(found, one) for one in found.chosen],
    "without_prompts": len(found.items) - len(found.rows),
    "rows": [
      _row(found, row, names, values)
      | {
        "videos": {
          model: {"included": row.query_id in chosen, "takes": takes}
          for model, chosen in included.items()
          if (takes := _takes(found, model, row.query_id, names))
        }
      }
      for row in found.rows
    ],
  }


def video_ids(data: Mapping[str, Any], model: str) -> list[str]:
  """The ids of the model's videos that the report includes."""
  return [
    video_id
    for row in data["rows"]
    if row["videos"].get(model, {"included": False})["included"]
    for take in row["videos"][model]["takes"]
    for video_id in take["videos"]
    if video_id
  ]


def _row(
  found: base.Found,
  row: records.Candidates,
  names: Sequence[str],
  values: Sequence[measures.Measure],
) -> dict[str, Any]:
  item = found.items[row.query_id]
  return {
    "id": row.query_id,
    "query": row.query,
    "category": row.category,
    "flags": row.flags,
    "labels": {name: list(given) for name, given in item.labels.items()},
    "prompts": [
      {
        "changes": changes.between(row.query, one.prompt),
        "tokens": one.tokens,
        "finish_reason": one.finish_reason,
        "verdict": found.verdicts.get(name, {}).get(row.query_id, ""),
      }
      for name, one in zip(names, row.candidates, strict=True)
    ],
    "values": [
      [_rounded(measure.values.get(name, {}).get(row.query_id)) for name in names]
      for measure in values
    ],
  }


def _rounded(value: float | None) -> float | None:
  return None if value is None or not np.isfinite(value) else round(value, _DIGITS)


def _takes(
  found: base.Found, model: str, query_id: str, names: Sequence[str]
) -> list[dict[str, Any]]:
  """The query's videos by their number; those of one number share their noise."""
  by_number: dict[int, dict[str, str]] = {}
  for name in names:
    for video in found.videos[model].get(name, {}).get(query_id, ()):
      by_number.setdefault(video.seed, {})[name] = video.video_id
  return [
    {
      "number": number,
      "noise": score_videos.noise_seed(query_id, number),
      "videos": [made.get(name) for name in names],
    }
    for number, made in sorted(by_number.items())
  ]


def _model(found: base.Found, model: str) -> dict[str, Any]:
  """The settings of a video model that change its frames."""
  config = found.config.video_models[model].renderer
  settings, name = identity.settings(config)
  lora = {"lora": config.lora.path, "scale": config.lora.scale or 1.0}
  return {"model": name, "settings": settings} | (lora if config.lora.path else {})


def _source(found: base.Found, system: systems.System) -> dict[str, Any]:
  """What wrote a system's prompts."""
  row = next(records.read(systems.candidates(found.place, system), records.Candidates))
  return {
    "system": system.name,
    "source": system.source,
    "of": system.of,
    "model": row.model,
    "settings": row.settings,
  }
