"""The stages in the paper's order, and variants that reuse the base run's results."""

import itertools
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
import yaml
from etils import epath

from vpo_jax import errors, stages
from vpo_jax.curate import curate
from vpo_jax.evaluate import evaluate, report
from vpo_jax.feedback import (
  bridge,
  diffusion_pairs,
  groups,
  merge_pairs,
  score_videos,
  text_pairs,
  train_diffusion_dpo,
  video_pairs,
)
from vpo_jax.predict import choose
from vpo_jax.runtime import console
from vpo_jax.sample import candidates
from vpo_jax.serve import export
from vpo_jax.teacher import build_sft
from vpo_jax.train import dpo, setup, sft
from vpo_jax.train import groups as train_groups

FEEDBACK = (
  curate.STAGE,
  build_sft.STAGE,
  sft.STAGE,
  candidates.STAGE,
  text_pairs.STAGE,
  choose.STAGE,  # if `config.choose` has a budget
  score_videos.STAGE,
)
# How the feedback is used, by the stage whose model is exported.
METHODS = {
  dpo.STAGE.name: (video_pairs.STAGE, merge_pairs.STAGE, dpo.STAGE),  # the paper's
  train_groups.STAGE.name: (groups.STAGE, train_groups.STAGE),  # docs/beyond.md
}
# Run if `config.diffusion_dpo` is True, before the evaluation.
DIFFUSION_DPO = (diffusion_pairs.STAGE, train_diffusion_dpo.STAGE)
_TUNED = "diffusion_dpo"  # the video model that they make, in the evaluation
# All of them by name.
STAGES = {
  stage.name: stage
  for stage in (*FEEDBACK, *itertools.chain(*METHODS.values()), export.STAGE)
}

Step = tuple[stages.Stage, ml_collections.ConfigDict]


def stages_for(config: ml_collections.ConfigDict) -> tuple[stages.Stage, ...]:
  """The stages from the queries to the exported model.

  Raises:
    UserError: `config.export.trained` is not one of `METHODS`.
  """
  trained = config.export.trained
  if trained not in METHODS:
    raise errors.UserError(
      f"config.export.trained={trained!r}: must be one of {', '.join(METHODS)}"
    )
  found = (*FEEDBACK, *METHODS[trained], export.STAGE)
  return tuple(one for one in found if one is not choose.STAGE or has_budget(config))


def has_budget(config: ml_collections.ConfigDict) -> bool:
  """Whether `config.choose` limits how many videos are rendered for training."""
  return "choose" in config and (
    config.choose.videos > 0 or config.choose.gpu_hours > 0
  )


def _with_budget(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A copy in which what is rendered is what `choose` chose, if there is a budget."""
  config = config.copy_and_resolve_references()
  if has_budget(config):
    config.score_videos.chosen = True
    config.choose.videos_per_prompt = config.score_videos.videos_per_prompt
  return config


def run(
  config: ml_collections.ConfigDict, workdir: epath.PathLike
) -> dict[str, stages.Counts]:
  """Runs every stage, then every variant, the evaluation and the report.

  Finished stages are not run again. The report is `<workdir>/report.json`, and a table
  on the console.

  Args:
    config: each stage's config under the stage's name, `report`, and optionally
      `evaluate` (configs/evaluate.py), `variants` and `diffusion_dpo`. A variant is
      trained in a folder of its own and is compared as one more system. If
      `diffusion_dpo` is True, the video model is trained too (figure 5).
      `export.trained` decides how the feedback is used. With a budget in `choose`, no
      more videos are rendered for training.

  Returns: the counts of each stage, without those of the variants.

  Raises:
    UserError: as the stages raise it, or a variant has a wrong form.
  """
  workdir, began = epath.Path(workdir), time.monotonic()
  config = _with_budget(config)
  variants = variant_steps(config, workdir)
  # Before the earlier stages work for hours.
  bridge.check(config.score_videos)
  setup.check_model(config.train_sft.model, config.train_sft.reasoning)
  if "evaluate" in config:
    evaluate.check(config.evaluate)
  steps = [(stage, config[stage.name]) for stage in stages_for(config)]
  counts = _run("", steps, workdir, workdir)
  for name, steps in variants.items():
    _run(f"{name}: ", steps, workdir / name, workdir)
  if config.get("diffusion_dpo", False):
    steps = [(stage, config[stage.name]) for stage in DIFFUSION_DPO]
    counts |= _run("diffusion_dpo: ", steps, workdir, workdir)
  if "evaluate" in config:
    comparison = config.evaluate.copy_and_resolve_references()
    if config.get("diffusion_dpo", False):
      _add_tuned_model(comparison, config, workdir)
    comparison.systems = _with_variants(comparison.systems, list(variants))
    counts["evaluate"] = stages.run(evaluate.STAGE, comparison, workdir)
  shown = config.report.copy_and_resolve_references()
  shown.base = shown.base or config.train_sft.model
  stages.run(report.STAGE, shown, workdir, own_process=True)
  note = config.evaluate.note if "evaluate" in config else ""
  report.publish(workdir, counts, note)
  minutes, seconds = divmod(round(time.monotonic() - began), 60)
  console.say(f"{workdir}: all stages done; this run took {minutes} min {seconds} s")
  return counts


def variant_steps(
  config: ml_collections.ConfigDict, workdir: epath.Path
) -> dict[str, list[Step]]:
  """The stages that each variant of `config.variants` runs, by the variant's name.

  Raises:
    UserError: a variant has a wrong form or changes nothing, or two have the same name.
  """
  config = _with_budget(config)
  found: dict[str, list[Step]] = {}
  for text in config.get("variants", ()):
    name, changed = _variant(text, config)
    if name in found:
      raise errors.UserError(f"config.variants: two variants are named {name}")
    found[name] = list(_changed_steps(changed, config, workdir, name))
  return found


def _add_tuned_model(
  comparison: ml_collections.ConfigDict,
  config: ml_collections.ConfigDict,
  workdir: epath.Path,
) -> None:
  """Adds the video model after Diffusion DPO, for the systems of figure 5."""
  tuned = comparison.video_models.main.copy_and_resolve_references()
  folder = workdir / train_diffusion_dpo.STAGE.name
  if config.train_diffusion_dpo.method == train_diffusion_dpo.LORA:
    tuned.renderer.lora.path = str(folder / train_diffusion_dpo.LORA)
  else:
    tuned.renderer.update(model=str(folder / train_diffusion_dpo.MODEL), revision="")
  rows = [row.partition("=")[2].split() for row in comparison.compare.combinations]
  with tuned.unlocked(), comparison.unlocked():
    # The names are checked by the evaluation (`combined.parse`).
    tuned.systems = tuple(
      dict.fromkeys(words[0] for words in rows if words[1:] == [_TUNED])
    )
    comparison.video_models[_TUNED] = tuned


def _with_variants(systems: Sequence[str], variants: Sequence[str]) -> tuple[str, ...]:
  """Adds the variants to the systems, before `vpo`, which is compared with all."""
  names = [system.partition("=")[0] for system in systems]
  place = names.index("vpo") if "vpo" in names else len(names)
  added = [f"{name}={name}/vpo" for name in variants]
  return (*systems[:place], *added, *systems[place:])


def _run(
  title: str, steps: Sequence[Step], workdir: epath.Path, root: epath.Path
) -> dict[str, stages.Counts]:
  counts = {}
  for number, (stage, config) in enumerate(steps, start=1):
    began = time.monotonic()
    counts[stage.name] = stages.run(stage, config, workdir, root, own_process=True)
    seconds = time.monotonic() - began
    console.say(f"{title}{number}/{len(steps)} {stage.name}: {seconds:.0f} s")
  return counts


def _changed_steps(
  changed: ml_collections.ConfigDict,
  base: ml_collections.ConfigDict,
  workdir: epath.Path,
  variant: str,
) -> Iterator[Step]:
  """The stages whose config or inputs differ from the base run's.

  Inputs that do not differ are read from the base run's folders.
  """
  differing: set[str] = set()  # folders
  of_base = stages_for(base)
  for stage in stages_for(changed):
    config = changed[stage.name].copy_and_resolve_references()
    inputs = [one for one in stage.inputs_for(config) if not config[one.key]]
    folders = {one.key: one.default.partition("/")[0] for one in inputs}
    same = stage in of_base and config.to_dict() == base[stage.name].to_dict()
    if same and not differing & set(folders.values()):
      continue
    differing.add(stage.folder_for(config))
    for one in inputs:
      owner = workdir / variant if folders[one.key] in differing else workdir
      config[one.key] = str(owner / one.default)
    yield stage, config
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
      f"config.variants: {text!r}: must be NAME STAGE.KEY=VALUE ..., where NAME is not"
      " the name of a stage"
    )
  changed = config.copy_and_resolve_references()
  for change in changes:
    key, _, value = change.partition("=")
    try:
      if key.partition(".")[0] not in STAGES:
        raise KeyError(f"{key!r} does not begin with the name of a stage")
      changed.update_from_flattened_dict({key: _typed(changed, key, value)})
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
      reason = " ".join(str(error.args[0] if error.args else error).split())
      raise errors.UserError(f"config.variants: {name}: {change}: {reason}") from error
  try:
    stages_for(changed)
  except errors.UserError as error:
    raise errors.UserError(f"config.variants: {name}: {error}") from error
  return name, _with_budget(changed)


def _typed(config: ml_collections.ConfigDict, key: str, text: str) -> Any:
  """Parses a value as YAML; a float where the config has a float."""
  *path, last = key.split(".")
  for part in path:
    config = config[part]
  value = yaml.safe_load(text)
  return float(value) if isinstance(config[last], float) else value
