"""Every model that the numbers of a comparison depend on.

The list is printed above the tables, so that they cannot be mistaken for another run's.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import json_input, stages
from vpo_jax.evaluate import systems
from vpo_jax.feedback import identity

# The paper's name of a video model, by the last part of its directory or hub id.
_PAPER = {"cogvideox-2b": "CogVideoX-2B", "cogvideox-5b": "CogVideoX-5B"}
# Kinds of systems with a model that this project did not train.
_BASELINES = (systems.PROMPTIST, systems.PROMPT_A_VIDEO)
_OPEN_SORA = "open-sora-1.2"  # a preset, because its model is any checkout


def is_named(video_model: ml_collections.ConfigDict) -> bool:
  """Whether the config names a renderer; if not, the video model is left out."""
  renderer = video_model.renderer
  return bool(renderer.preset or renderer.name or renderer.model)


def paper_model(video_model: ml_collections.ConfigDict) -> str:
  """The paper's name of a video model; "" if the paper has no numbers of it.

  The name of the weights decides, not the preset, because a preset can use any model.
  """
  renderer = video_model.renderer
  if renderer.preset == _OPEN_SORA:
    return "Open-Sora 1.2"
  _, model = identity.settings(renderer)
  if renderer.lora.path:
    return ""
  return _PAPER.get(pathlib.PurePath(model).name.lower(), "")


def describe(
  config: ml_collections.ConfigDict,
  chosen: Sequence[systems.System],
  root: epath.Path,
) -> list[dict[str, str]]:
  """Rows of part, model and revision.

  Args:
    config: of the stage evaluate.
    chosen: the systems to compare.
    root: the workdir of the run, whose manifests say which model was trained.
  """
  rows = []
  trained = root / "train_sft" / stages.MANIFEST
  if trained.exists():
    manifest = json_input.value(trained)
    policy = manifest["inputs"].get("model", {})
    rows.append(
      _row("policy", manifest["config"]["model"], policy.get("fingerprint", ""))
    )
  rows += [_llm(part, teacher) for part, teacher in llms(config, chosen).items()]
  baselines = {one.source: one for one in reversed(chosen) if one.kind in _BASELINES}
  rows += [_baseline(one, config) for one in reversed(baselines.values())]
  rows.append(_llm("judge of the prompts", config.alignment.teacher))
  for name, video_model in config.video_models.items():
    if is_named(video_model):
      rows += _video(name, video_model, root)
  return rows


def _baseline(
  system: systems.System, config: ml_collections.ConfigDict
) -> dict[str, str]:
  part = f"model of {system.name}"
  if system.kind == systems.PROMPTIST:
    name = systems.promptist_model(system, config)
    return _row(part, f"{name} (Promptist)", config.promptist.revision)
  return _row(part, f"{system.target} (Prompt-A-Video)", "")


def llms(
  config: ml_collections.ConfigDict, chosen: Sequence[systems.System]
) -> dict[str, ml_collections.ConfigDict]:
  """The settings of the LLMs that write the systems' prompts, by their part.

  Raises:
    UserError: a system names no entry of `config.llms`, or its template is unusable.
  """
  found = {}
  if any(one.source == systems.TEACHER for one in chosen):
    found["teacher"] = config.build_sft.teacher
  for one in chosen:
    if one.kind == systems.LLM:
      found[f"LLM {one.target}"] = systems.llm_settings(one, config).teacher
  return found


def _video(
  name: str, config: ml_collections.ConfigDict, root: epath.Path
) -> list[dict[str, str]]:
  settings, model = identity.settings(config.renderer)
  scorer = config.scorer
  path = pathlib.PurePath(model)
  if path.is_relative_to(pathlib.Path.cwd()):  # the same table in every checkout
    path = path.relative_to(pathlib.Path.cwd())
  renderer = f"{path} ({settings['renderer']})"
  if lora := config.renderer.lora.path:
    lora_path = pathlib.PurePath(lora)
    if lora_path.is_relative_to(root_path := pathlib.PurePath(root)):
      lora_path = lora_path.relative_to(root_path)
    renderer += f" with the LoRA {lora_path} x {config.renderer.lora.scale or 1.0:g}"
  reward = f"{scorer.model} ({scorer.name})" if scorer.model else scorer.name
  return [
    _row(f"video model {name}", renderer, config.renderer.revision),
    _row(f"reward of {name}'s videos", reward, scorer.revision),
  ]


def _llm(part: str, config: ml_collections.ConfigDict) -> dict[str, str]:
  where = config.server or config.base_url or "OpenAI"
  return _row(part, f"{config.model} ({where})", "")


def _row(part: str, model: str, revision: str) -> dict[str, str]:
  return {"part": part, "model": model, "revision": revision}


def paper_models(
  config: ml_collections.ConfigDict, names: Sequence[str]
) -> Mapping[str, str]:
  """The paper's video models by ours, without those that the paper does not have."""
  found: dict[str, Any] = {
    name: paper_model(config.video_models[name]) for name in names
  }
  return {name: paper for name, paper in found.items() if paper}
