"""Stage train_groups: training on all candidates of each query, by their rewards."""

import dataclasses

import jinja2
import ml_collections
import numpy as np
from etils import epath

from vpo_jax import errors, files, records, stages, templates
from vpo_jax.data import examples as data_examples
from vpo_jax.data import forms
from vpo_jax.decoder import source
from vpo_jax.train import (
  group_objective,
  group_rewards,
  loop,
  objective,
  setup,
)

# Their clipped ratio is that to the model which wrote the candidates.
ON_POLICY = ("grpo", "dr_grpo")


def run(work: stages.Work) -> stages.Counts:
  """Trains on groups; writes `train_groups/model`.

  The model that training starts from is also the reference.

  Returns: counts, and the held-out loss before and after (None without held-out
    groups).
  """
  config = work.config
  loop.check(config, work.folder)
  group_rewards.check(config)
  loss = from_config(config)
  model = setup.open_model(config, work.inputs["model"])
  beside = work.inputs["train"].parent / templates.INSTRUCTION
  path = config.instruction or (beside if beside.exists() else "")
  template = templates.of_model(model.base, path)
  train = _read(work, "train", model, template)
  heldout = _read(work, "heldout", model, template)
  params = model.load()
  train = setup.with_reference(work, "train", train, params, model)
  heldout = setup.with_reference(work, "heldout", heldout, params, model)
  task = loop.Task("train groups", work, model.policy, model.placement, loss)
  fitted = loop.fit(task, params, train, heldout)
  setup.save_model(work, model, params, fitted.params, template)
  assert train.reward_XE is not None
  return {
    "groups": len(train.examples),
    "responses": int(np.isfinite(train.reward_XE).sum()),
    "heldout": len(heldout.examples),
    **fitted.counts(),
  }


def from_config(config: ml_collections.ConfigDict) -> objective.Objective:
  """The loss that configs/train_groups.py describes.

  Raises:
    UserError: a value is out of range.
  """
  names = ("plackett_luce", "kto", *ON_POLICY)
  if config.loss not in names:
    raise errors.UserError(
      f"config.loss={config.loss!r}: must be one of {', '.join(names)}"
    )
  for key in (
    "beta",
    "desirable_weight",
    "undesirable_weight",
    "clip_low",
    "clip_high",
    "length",
  ):
    if config[key] <= 0:
      raise errors.UserError(f"config.{key}={config[key]}: must be greater than 0")
  if config.kl_weight < 0:
    raise errors.UserError(f"config.kl_weight={config.kl_weight}: must be at least 0")
  if config.loss == "plackett_luce":
    return group_objective.plackett_luce(config.beta)
  if config.loss == "kto":
    return group_objective.Kto(
      config.beta, config.desirable_weight, config.undesirable_weight
    )
  of_tokens = config.loss == "grpo"
  return group_objective.policy_gradient(
    clip_low=config.clip_low,
    clip_high=config.clip_high,
    kl_weight=config.kl_weight,
    scaled=of_tokens,
    length=None if of_tokens else config.length,
  )


def _read(work: stages.Work, key: str, model: setup.Setup, template: str) -> loop.Split:
  """The groups of a file as tokens, with the reward of each response."""
  if key not in work.inputs:
    if key == "heldout" and work.config.heldout:
      raise errors.UserError(f"config.heldout={work.config.heldout}: no such file")
    return loop.Split([])
  limit = min(work.config.max_tokens, model.policy.config.context)
  on_policy = work.config.loss in ON_POLICY
  labels = work.config.loss == "kto"
  author = files.fingerprint(model.base) if on_policy else ""
  examples, rewards, aside = [], [], []
  for group in records.read(work.inputs[key], records.Group):
    score = group_rewards.desirable if labels else group_rewards.rewards
    found = score(group, work.config)
    known = [value for _, value in found if not np.isnan(value)]
    if on_policy and group.model not in ("", author):
      raise errors.UserError(
        f"{work.inputs[key]}: another model than {model.base} wrote the candidates;"
        f" loss={work.config.loss} must start from the model that wrote them"
      )
    try:
      if not known:
        raise ValueError("nothing is known of its responses")
      if not labels and len(set(known)) < 2:
        raise ValueError("its responses do not differ in reward")
      content = templates.fill(template, query=group.query)
      turns = ({"role": "user", "content": content},)
      row = forms.Row(turns, tuple(prompt for prompt, _ in found))
      example = data_examples.tokens(group.query_id, row, model.format)
      length = len(example.prompt) + max(map(len, example.responses))
      if length > limit:
        raise ValueError(f"{length} tokens, more than max_tokens={limit}")
    except (ValueError, jinja2.TemplateError) as error:
      aside.append(records.SetAside(group.query_id, group.query, str(error)))
      continue
    examples.append(example)
    rewards.append([value for _, value in found])
  path: epath.Path = work.folder / f"set_aside_{key}.jsonl"
  records.write(path, aside)
  if not examples and key == "train":
    why = f"; the first: {aside[0].reason}" if aside else ""
    raise errors.UserError(f"{work.inputs[key]}: no usable group{why}")
  if not examples:
    return loop.Split([])
  if labels:
    examples, rewards = _with_mismatched(examples, rewards, limit)
  reward_XE = np.full((len(rewards), max(map(len, rewards))), np.nan, np.float32)
  for row, values in zip(reward_XE, rewards, strict=True):
    row[: len(values)] = values
  return loop.Split(examples, reward_XE=reward_XE)


def _with_mismatched(
  examples: list[data_examples.Example], rewards: list[list[float]], limit: int
) -> tuple[list[data_examples.Example], list[list[float]]]:
  """Adds to each group the first response of the next one, for KTO's reference point.

  The last group is followed by the first. A response with which the group would have
  more than `limit` tokens is not added.
  """
  mixed, marked = [], []
  following = [*examples[1:], *examples[:1]] if len(examples) > 1 else [None]
  for example, known, other in zip(examples, rewards, following, strict=True):
    if other and len(example.prompt) + len(other.responses[0]) <= limit:
      responses = (*example.responses, other.responses[0])
      example = dataclasses.replace(example, responses=responses)
      known = [*known, group_objective.MISMATCHED]
    mixed.append(example)
    marked.append(known)
  return mixed, marked


def _inputs(config: stages.Config) -> stages.Inputs:
  return (
    stages.Input("train", "groups/train.jsonl"),
    stages.Input("heldout", "groups/heldout.jsonl", optional=True),
    stages.Input("model", "train_sft/model", resolve=source.resolve),
    *setup.inputs(config),
  )


STAGE = stages.Stage(
  name="train_groups",
  run=run,
  inputs=_inputs,
  execution_keys=loop.EXECUTION_KEYS,
  uses_jax=True,
  handles_sigterm=True,
)
