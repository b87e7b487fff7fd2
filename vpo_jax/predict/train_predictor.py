"""Stage train_predictor: fits the head that predicts a prompt's video reward.

The predictor reads a query and a prompt with the policy and renders nothing.
"""

import dataclasses
import itertools
import math

import jax
import numpy as np

from vpo_jax import errors, files, records, stages
from vpo_jax.decoder import sharding, source
from vpo_jax.predict import features, predictor, validation
from vpo_jax.predict import head as heads
from vpo_jax.runtime import console, processes
from vpo_jax.sample import lm

SCORED = "scored.jsonl"  # the groups that it was fitted on
LEAST_QUERIES = 20  # with two scored prompts


def run(work: stages.Work) -> stages.Counts:
  """Writes predictor.npz, report.json and scored.jsonl.

  With `config.earlier` it also learns from the groups of an earlier predictor.

  Raises:
    UserError: a setting is out of range, the model cannot be loaded, or there are too
      few queries with two scored prompts.
  """
  config = work.config
  if config.folds < 2:
    raise errors.UserError(f"config.folds={config.folds}: must be at least 2")
  if config.margin < 0:
    raise errors.UserError(f"config.margin={config.margin}: must be at least 0")
  scored = _scored(work)
  _check_size(work, len(scored))
  policy = lm.load(
    str(work.inputs["model"]),
    precision=config.precision,
    instruction=config.instruction,
    mesh=sharding.make_mesh(config.mesh, jax.local_devices()),
  )
  total = sum(len(group.responses) for group in scored)
  with console.progress(work.name, total) as advance:
    prompts = [[one.prompt for one in group.responses] for group in scored]
    found = features.compute(policy, [g.query for g in scored], prompts, advance)
  rewards = [[one.reward for one in group.responses] for group in scored]
  known = [np.isfinite(x_KF).all(axis=1) for x_KF in found]
  kept = [q for q, known_K in enumerate(known) if known_K.sum() > 1]
  _check_size(work, len(kept))
  x_NF = np.concatenate([found[q][known[q]] for q in kept])
  reward_N = np.concatenate([np.asarray(rewards[q], float)[known[q]] for q in kept])
  query_N = np.repeat(np.arange(len(kept)), [known[q].sum() for q in kept])
  fold_Q = validation.folds([scored[q].query_id for q in kept], config.folds)
  report = validation.cross_validate(
    x_NF, reward_N, query_N, fold_Q=fold_Q, margin=config.margin
  )
  head = heads.fit(x_NF, reward_N, query_N)
  accuracy = math.nan if report.pair_accuracy is None else report.pair_accuracy
  if processes.first():
    records.write(work.folder / SCORED, scored)
    fitted = predictor.Predictor(head, predictor.reader(policy), accuracy)
    fitted.save(work.folder / predictor.FILE)
    values = dataclasses.asdict(report) | {"margin": config.margin, "noise": head.noise}
    files.write_json(work.folder / "report.json", values)
  return _counts(report, head) | {"set_aside": total - len(x_NF)}


def _scored(work: stages.Work) -> list[records.Group]:
  """The groups with their scored responses alone; those with two or more.

  The groups of a query that occurs several times become one.
  """
  found = {}
  keys = [key for key in ("earlier", "groups") if key in work.inputs]
  rows = itertools.chain(
    *(records.read(work.inputs[key], records.Group) for key in keys)
  )
  for group in rows:
    known = found[group.query_id].responses if group.query_id in found else ()
    responses = {one.prompt: one for one in (*known, *group.responses)}
    scored = tuple(one for one in responses.values() if one.reward is not None)
    found[group.query_id] = dataclasses.replace(group, responses=scored)
  return [group for group in found.values() if len(group.responses) > 1]


def _check_size(work: stages.Work, queries: int) -> None:
  least = max(LEAST_QUERIES, work.config.folds)
  if queries < least:
    raise errors.UserError(
      f"{work.inputs['groups']}: {queries} queries have two scored prompts that the"
      f" model can read; a predictor needs at least {least}"
    )


def _counts(report: validation.Report, head: heads.Head) -> stages.Counts:
  values = {
    "queries": report.queries,
    "prompts": report.prompts,
    "pairs": report.pairs,
    "pair_accuracy": report.pair_accuracy,
    "r2": report.r2,
    "gain": report.gain,
    "best_gain": report.best_gain,
    "coverage_80": report.coverage["80%"],
    "noise": head.noise,
  }
  return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


def _inputs(config: stages.Config) -> stages.Inputs:
  named = [stages.Input(key) for key in ("earlier", "instruction") if config[key]]
  return (
    stages.Input("groups", "groups/groups.jsonl"),
    stages.Input("model", "train_sft/model", resolve=source.resolve),
    *named,
  )


STAGE = stages.Stage(
  name="train_predictor",
  run=run,
  inputs=_inputs,
  execution_keys=("mesh.*",),
  uses_jax=True,
)
