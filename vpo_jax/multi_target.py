"""One policy for several video models, and how policies transfer between them.

The paper trains a policy for one video model. Here a target's notes are part of the
instruction (`vpo_jax.promises.targets`): candidates are sampled, judged, rendered and
paired for each target, and a policy is trained on the pairs of one target or of
several.
"""

import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import rich.box
import rich.table
from etils import epath

from vpo_jax import errors, files, json_input, pipeline, stages
from vpo_jax.evaluate import evaluate, measures
from vpo_jax.feedback import bridge, merge_targets
from vpo_jax.promises import targets
from vpo_jax.runtime import console
from vpo_jax.serve import export
from vpo_jax.train import dpo, setup

FOLDER = "targets"
_SHARED = ("curate", "build_sft", "train_sft")
_FEEDBACK = ("sample", "text_pairs", "score_videos", "video_pairs", "merge_pairs")
_SFT = "sft"  # its name in the evaluation


@dataclasses.dataclass(frozen=True)
class Cell:
  """A policy used on a video model.

  Attributes:
    policy: its name; "sft" is the model before DPO, without notes.
    trained_for: the targets that it was trained for.
    video_model: that renders its prompts.
    reward: mean over the test queries.
    aligned: share of its prompts that the judge finds aligned.
    gain: mean difference of the reward to SFT; None for SFT.
    low, high: 95 % interval of the gain, over queries.
  """

  policy: str
  trained_for: tuple[str, ...]
  video_model: str
  reward: float
  aligned: float | None
  gain: float | None = None
  low: float | None = None
  high: float | None = None


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> list[Cell]:
  """Trains each policy of `config.policies` and evaluates all on every target.

  A finished pipeline's workdir can be used: its queries, SFT model and videos are not
  made again. Everything else is in `<workdir>/targets`: a folder for each target and
  policy, `evaluate`, and the table as `transfer.json`.

  Args:
    config: as of `pipeline.run`, with `targets` and `policies`
      (configs/multi_target.py).

  Raises:
    UserError: as the stages raise it, or a target or policy is not usable.
  """
  workdir, began = epath.Path(workdir), time.monotonic()
  profiles, policies = _profiles(config), _policies(config)
  # Before the earlier stages work for hours.
  evaluate.check(config.evaluate)
  for name in profiles:
    bridge.check(config.evaluate.video_models[name])
  setup.check_model(config.train_sft.model, config.train_sft.reasoning)
  for name in _SHARED:
    stages.run(pipeline.STAGES[name], config[name], workdir, own_process=True)
  sft = str(workdir / "train_sft" / "model")
  folder = workdir / FOLDER
  for name, profile in profiles.items():
    for stage, own in _feedback(config, workdir, sft, name, profile):
      stages.run(stage, own, folder / name, workdir, own_process=True)
    console.say(f"target {name}: its pairs are ready")
  for name, names in policies.items():
    for stage, own in _training(config, folder, sft, name, names):
      stages.run(stage, own, _place(folder, name), workdir, own_process=True)
    console.say(f"policy {name}: trained for {', '.join(names)}")
  comparison = _comparison(config, workdir, profiles, policies)
  stages.run(evaluate.STAGE, comparison, folder, workdir)
  results = json_input.value(folder / "evaluate" / "results.json")
  cells = transfer(results, list(profiles), policies)
  rows = [dataclasses.asdict(cell) for cell in cells]
  files.write_json(folder / "transfer.json", rows)
  _show(cells, list(profiles))
  minutes = (time.monotonic() - began) / 60
  console.say(f"{folder}: done; this run took {minutes:.0f} min")
  return cells


def transfer(
  results: Mapping[str, Any],
  video_models: Sequence[str],
  policies: Mapping[str, Sequence[str]],
) -> list[Cell]:
  """The SFT model and every policy on every video model.

  Args:
    results: content of evaluate/results.json.
    policies: the targets that each policy was trained for.
  """
  judged = measures.find(results, "aligned")
  found = []
  for model in video_models:
    rewards = measures.find(results, "overall", model=model)
    if rewards is None:
      raise errors.UserError(f"no prompt has a video of {model}")
    for policy, names in {_SFT: (), **policies}.items():
      system = _system(policy, names, model)
      cell = Cell(
        policy,
        tuple(names),
        model,
        rewards["systems"][system]["mean"],
        judged["systems"][system]["mean"] if judged else None,
      )
      found.append(cell if policy == _SFT else _with_gain(cell, rewards, system))
  return found


def _with_gain(cell: Cell, rewards: Mapping[str, Any], system: str) -> Cell:
  [row] = [
    row for row in rewards["differences"] if {row["one"], row["two"]} == {_SFT, system}
  ]
  mean, low, high = row["mean"], row["low"], row["high"]
  if row["two"] == _SFT:
    mean, low, high = -mean, -high, -low
  return dataclasses.replace(cell, gain=mean, low=low, high=high)


def _system(policy: str, names: Sequence[str], model: str) -> str:
  """The evaluated system of a policy on a video model.

  A policy is given the notes of that model if it was trained with them, and otherwise
  those of its first target.
  """
  if not names:
    return policy
  return f"{policy}_for_{model if model in names else names[0]}"


def _feedback(
  config: ml_collections.ConfigDict,
  workdir: epath.Path,
  sft: str,
  name: str,
  profile: str,
) -> list[pipeline.Step]:
  """The stages from the queries to the preference rows of one target."""
  config = config.copy_and_resolve_references()
  config.sample.update(
    queries=config.sample.queries or str(workdir / "curate" / "dpo.jsonl"),
    model=sft,
    target=profile,
  )
  config.text_pairs.target = profile
  video_model = config.evaluate.video_models[name]
  for key in ("renderer", "scorer", "bridge"):
    config.score_videos[key] = video_model[key]
  return [(pipeline.STAGES[stage], config[stage]) for stage in _FEEDBACK]


def _training(
  config: ml_collections.ConfigDict,
  folder: epath.Path,
  sft: str,
  policy: str,
  names: Sequence[str],
) -> list[pipeline.Step]:
  """The stages from the targets' rows to an exported policy."""
  config = config.copy_and_resolve_references()
  merged = ml_collections.ConfigDict(
    {"folders": tuple(str(folder / name / "merge_pairs") for name in names)}
  )
  merged.model = sft
  rows = _place(folder, policy) / merge_targets.STAGE.name
  config.train_dpo.update(
    model=sft, train=str(rows / "train.json"), heldout=str(rows / "heldout.json")
  )
  config.export.trained = dpo.STAGE.name
  return [
    (merge_targets.STAGE, merged),
    (dpo.STAGE, config.train_dpo),
    (export.STAGE, config.export),
  ]


def _place(folder: epath.Path, policy: str) -> epath.Path:
  return folder / "policies" / policy


def _comparison(
  config: ml_collections.ConfigDict,
  workdir: epath.Path,
  profiles: Mapping[str, str],
  policies: Mapping[str, Sequence[str]],
) -> ml_collections.ConfigDict:
  """The evaluation of each policy, given the notes of each of its targets."""
  comparison = config.evaluate.copy_and_resolve_references()
  systems = [f"{_SFT}={workdir / 'train_sft' / 'model'}"]
  for policy, names in policies.items():
    model = _place(workdir / FOLDER, policy) / "vpo"
    systems += [f"{policy}_for_{name}={model} for={profiles[name]}" for name in names]
  comparison.systems = tuple(systems)
  for suite in (comparison, comparison.query_alignment):
    suite.queries = suite.queries or str(workdir / "curate" / "test.jsonl")
  for name in set(comparison.video_models) - profiles.keys():
    del comparison.video_models[name]
  for name in profiles:
    shown = [
      _SFT,
      *(_system(policy, names, name) for policy, names in policies.items()),
    ]
    with comparison.unlocked():
      comparison.video_models[name].systems = tuple(shown)
  return comparison


def _profiles(config: ml_collections.ConfigDict) -> dict[str, str]:
  """The profile of each target of the config.

  Raises:
    UserError: there is none, one cannot be read, or two have the same notes.
  """
  found, notes = {}, {}
  for name, profile in config.targets.items():
    if name not in config.evaluate.video_models:
      raise errors.UserError(
        f"config.targets.{name}: config.evaluate.video_models has no {name}"
      )
    if not profile:
      raise errors.UserError(
        f"config.targets.{name} is empty; name a profile of configs/targets, or a file"
      )
    target = targets.load(profile)
    found[name] = str(targets.find(profile))
    if earlier := notes.get(target.profile.notes):
      raise errors.UserError(
        f"config.targets: {earlier} and {name} have the same notes, so a policy could"
        " not tell them apart; write different ones into their profiles"
      )
    notes[target.profile.notes] = name
  if not found:
    raise errors.UserError("config.targets: name a target, as NAME = its profile")
  return found


def _policies(config: ml_collections.ConfigDict) -> dict[str, tuple[str, ...]]:
  """The targets of each policy, by its name.

  Raises:
    UserError: a row has another form, a name occurs twice, or a target is unknown.
  """
  found: dict[str, tuple[str, ...]] = {}
  for row in config.policies:
    name, _, rest = row.partition("=")
    names = tuple(rest.split())
    if not re.fullmatch(r"\w+", name) or not names or name in (*found, _SFT):
      raise errors.UserError(
        f"config.policies: {row!r}: must be NAME=TARGET ..., each NAME once"
      )
    for one in names:
      if one not in config.targets:
        raise errors.UserError(
          f"config.policies: {row!r}: config.targets has no {one!r}"
        )
    found[name] = names
  if not found:
    raise errors.UserError("config.policies: name a policy, as NAME=TARGET ...")
  return found


def _show(cells: Sequence[Cell], video_models: Sequence[str]) -> None:
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
  table.add_column("policy")
  table.add_column("trained for")
  for model in video_models:
    table.add_column(f"reward on {model}, and gain over SFT (95 %)", justify="right")
  rows: dict[str, list[Cell]] = {}
  for cell in cells:
    rows.setdefault(cell.policy, []).append(cell)
  for policy, row in rows.items():
    shown = []
    for cell in row:
      gain = ""
      if cell.gain is not None:
        gain = f"  {cell.gain:+.2f} ({cell.low:+.2f} to {cell.high:+.2f})"
      shown.append(f"{cell.reward:.2f}{gain}")
    table.add_row(policy, ", ".join(row[0].trained_for), *shown)
  console.console.print(table)
