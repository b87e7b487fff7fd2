"""The stages in the paper's order, and variants of them that share what they can."""

import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import yaml
from etils import epath

from vpo_jax import errors
from vpo_jax.curate import curate
from vpo_jax.evaluate import experiment
from vpo_jax.feedback import merge, text_pairs, video_pairs
from vpo_jax.runtime import allocator, console
from vpo_jax.sample import candidates as sample
from vpo_jax.serve import export
from vpo_jax.teacher import build_sft
from vpo_jax.train import dpo, sft

Counts = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class _Stage:
  """One stage.

  Attributes:
    inputs: config keys that name a file of an earlier stage, relative to the workdir;
      where a key is "", the stage finds it in its own workdir.
  """

  run: Callable[[ml_collections.ConfigDict, epath.PathLike], dict[str, Any]]
  inputs: Mapping[str, str]


STAGES = {
  "curate": _Stage(curate.run, {}),
  "build_sft": _Stage(build_sft.run, {"input": "curate/sft.jsonl"}),
  "train_sft": _Stage(
    sft.run, {"train": "build_sft/train.json", "heldout": "build_sft/heldout.json"}
  ),
  "sample": _Stage(
    sample.run, {"queries": "curate/dpo.jsonl", "model": "train_sft/model"}
  ),
  "text_pairs": _Stage(text_pairs.run, {"input": "sample/candidates.jsonl"}),
  "video_pairs": _Stage(
    video_pairs.run,
    {"candidates": "sample/candidates.jsonl", "judged": "text_pairs/judged.jsonl"},
  ),
  "merge_pairs": _Stage(
    merge.run, {"text": "text_pairs/pairs.jsonl", "video": "video_pairs/pairs.jsonl"}
  ),
  "train_dpo": _Stage(
    dpo.run,
    {
      "model": "train_sft/model",
      "train": "merge_pairs/train.json",
      "heldout": "merge_pairs/heldout.json",
    },
  ),
  "export": _Stage(export.run, {"model": "train_dpo/model"}),
}


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> Counts:
  """Runs every stage, then every variant; what is done already is not done again.

  Args:
    config: a stage's config under the stage's name; `variants`, which are trained in
      folders of their own; and `evaluate` (configs/evaluate.py), if the systems it
      names, and the variants, are to be compared.

  Returns: what each stage reported, the variants' not among them.

  Raises:
    UserError: as the stages, or a variant that is written wrong.
  """
  variants = [_variant(text, config) for text in config.get("variants", ())]
  if len({name for name, _ in variants}) < len(variants):
    raise errors.UserError("config.variants: two of one name")
  workdir = epath.Path(workdir)
  counts = _run("", list(_own(config)), workdir)
  for name, changed in variants:
    _run(f"{name}: ", list(_differing(changed, config, workdir, name)), workdir / name)
  if "evaluate" in config:
    evaluate = config.evaluate.copy_and_resolve_references()
    # Before the last ones: what they are compared with.
    evaluate.systems = _among(evaluate.systems, [name for name, _ in variants])
    counts["evaluate"] = experiment.run(evaluate, workdir)
  return counts


def _among(systems: Sequence[str], variants: Sequence[str]) -> tuple[str, ...]:
  """The systems with the variants before our own, which is the workdir's `vpo`."""
  names = [system.partition("=")[0] for system in systems]
  place = names.index("vpo") if "vpo" in names else len(names)
  made = [f"{name}={name}/vpo" for name in variants]
  return (*systems[:place], *made, *systems[place:])


_Work = tuple[str, ml_collections.ConfigDict]


def _run(title: str, works: Sequence[_Work], workdir: epath.Path) -> Counts:
  counts = {}
  for number, (name, config) in enumerate(works, start=1):
    began = time.monotonic()
    counts[name] = STAGES[name].run(config, workdir)
    allocator.give_back()
    took = time.monotonic() - began
    console.say(f"{title}{number}/{len(works)} {name}: {took:.0f} s")
  return counts


def _own(config: ml_collections.ConfigDict) -> Iterator[_Work]:
  for name in STAGES:
    yield name, config[name]


def _differing(
  changed: ml_collections.ConfigDict,
  base: ml_collections.ConfigDict,
  workdir: epath.Path,
  variant: str,
) -> Iterator[_Work]:
  """The stages from the first that differs on, the others' files for their inputs."""
  differing: set[str] = set()
  for name, stage in STAGES.items():
    earlier = {path.partition("/")[0] for path in stage.inputs.values()}
    if changed[name].to_dict() == base[name].to_dict() and not earlier & differing:
      continue
    differing.add(name)
    config = changed[name].copy_and_resolve_references()
    for key, path in stage.inputs.items():
      owner = workdir / variant if path.partition("/")[0] in differing else workdir
      config[key] = config[key] or str(owner / path)
    if name == "video_pairs" and not config.bridge.store:
      config.bridge.store = str(workdir / name / "store")  # no video twice
    yield name, config
  if not differing:
    raise errors.UserError(f"config.variants: {variant} changes nothing")


def _variant(
  text: str, config: ml_collections.ConfigDict
) -> tuple[str, ml_collections.ConfigDict]:
  """The name and the config of "NAME STAGE.KEY=VALUE ...".

  Raises:
    UserError: another form, an unknown key, or a value of another type.
  """
  name, *changes = text.split()
  if not re.fullmatch(r"\w+", name) or name in STAGES or not changes:
    raise errors.UserError(
      f"config.variants: {text!r}: wants NAME STAGE.KEY=VALUE ..., and no stage's name"
    )
  changed = config.copy_and_resolve_references()
  for change in changes:
    key, _, value = change.partition("=")
    try:
      if key.partition(".")[0] not in STAGES:
        raise KeyError(f"no stage of {key!r}")
      changed.update_from_flattened_dict({key: _typed(changed, key, value)})
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
      reason = " ".join(str(error.args[0] if error.args else error).split())
      raise errors.UserError(f"config.variants: {name}: {change}: {reason}") from error
  return name, changed


def _typed(config: ml_collections.ConfigDict, key: str, text: str) -> Any:
  """The value that a text names: YAML's, and a float where the config has one."""
  *path, last = key.split(".")
  for part in path:
    config = config[part]
  value = yaml.safe_load(text)
  return float(value) if isinstance(config[last], float) else value
