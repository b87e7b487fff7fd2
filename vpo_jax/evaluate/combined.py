"""Systems on different video models, compared on the same queries (paper, figure 5).

A combination is a system and the video model that renders its prompts, such as VPO on
the original model, and the teacher's prompts on a model after Diffusion DPO. All videos
of a query have the same noise, whatever the prompt and the model.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import ml_collections

from vpo_jax import errors
from vpo_jax.evaluate import measures
from vpo_jax.evaluate.suites import measured


@dataclasses.dataclass(frozen=True)
class Combination:
  """One of `config.compare.combinations`."""

  name: str
  system: str
  model: str


def parse(
  rows: Sequence[str], systems: Sequence[str], models: Sequence[str]
) -> list[Combination]:
  """The combinations in rows such as "both=vpo diffusion_dpo".

  Args:
    systems: those of the run; rows with another one are left out.
    models: its video models; the same.

  Returns: the combinations; none if all are of one video model.

  Raises:
    UserError: a row has another form, or two have the same name.
  """
  found = []
  for row in rows:
    name, _, rest = row.partition("=")
    words = rest.split()
    if not name.strip() or len(words) != 2:
      raise errors.UserError(
        f"config.compare.combinations: {row!r}: must be NAME=SYSTEM MODEL"
      )
    found.append(Combination(name.strip(), *words))
  names = [one.name for one in found]
  if len(set(names)) < len(names):
    raise errors.UserError("config.compare.combinations: two rows have the same name")
  kept = [one for one in found if one.system in systems and one.model in models]
  return kept if len({one.model for one in kept}) > 1 else []


def summarize(
  values: Sequence[measures.Measure],
  chosen: Sequence[Combination],
  labels: measures.Labels,
  config: ml_collections.ConfigDict,
) -> list[dict[str, Any]]:
  """Each measure of videos that all combinations have, as `measures.summarize` gives.

  Args:
    values: of all video models.
    config: `config.compare`.
  """
  if not chosen:
    return []
  pairs = list(itertools.combinations([one.name for one in chosen], 2))
  by_name: dict[str, dict[str, measures.Measure]] = {}
  for one in values:
    if one.model:
      by_name.setdefault(one.name, {})[one.model] = one
  made = []
  for name, by_model in by_name.items():
    having = [
      one
      for one in chosen
      if one.model in by_model and one.system in by_model[one.model].values
    ]
    if len(having) < len(chosen) or name.startswith("level "):
      continue
    first = by_model[chosen[0].model]
    joined = dataclasses.replace(
      first,
      values={one.name: by_model[one.model].values[one.system] for one in chosen},
      model=" and ".join(dict.fromkeys(one.model for one in chosen)),
    )
    made.append(measures.summarize(joined, pairs, labels, config))
  return made


def figure(
  suite: str, rows: Sequence[dict[str, Any]], chosen: Sequence[dict[str, str]]
) -> dict[str, Any] | None:
  """A part of figure 5: pairs by the reward, and a table of all measures.

  Args:
    rows: of `summarize`.
    chosen: the combinations' names, systems and models.
  """
  overall = [row for row in rows if row["name"] == measured.OVERALL]
  if not overall:
    return None
  return {
    "model": overall[0]["model"],
    "suites": [suite],
    "queries": {suite: overall[0]["queries"]},
    "pairs": overall[0]["differences"],
    "combinations": list(chosen),
    "columns": [
      {"name": row["name"], "unit": row["unit"], "queries": row["queries"]}
      for row in rows
    ],
    "rows": [
      {
        "system": one["name"],
        "cells": [row["systems"][one["name"]] | {"paper": None} for row in rows],
      }
      for one in chosen
    ],
  }
