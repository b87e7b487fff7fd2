"""What can be checked before anything is computed: files, keys, packages, devices."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator

import jax
import ml_collections
from etils import epath

from vpo_jax import errors, stages
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import sharding, source, weights
from vpo_jax.evaluate import evaluate, setup, suites, systems
from vpo_jax.feedback import identity, jobs
from vpo_jax.runtime import child
from vpo_jax.teacher import queue

Check = tuple[str, Callable[[], str]]


@dataclasses.dataclass(frozen=True)
class Finding:
  """The outcome of one check.

  Attributes:
    part: what was checked.
    ok: whether the run can start with it.
    line: what was found, or the reason why the run cannot start.
  """

  part: str
  ok: bool
  line: str


def check(
  config: ml_collections.ConfigDict, folder: epath.Path
) -> tuple[list[Finding], dict[str, int]]:
  """Runs every check; one that fails does not stop the others.

  Args:
    config: of `launch/pipeline.py`.
    folder: for the job files that the workers read.

  Returns: the outcomes, and the number of rendering workers by part (`video_models`);
    1 where the interpreters could not be asked.
  """
  found: list[Finding] = []
  workers = dict.fromkeys(video_models(config), 1)
  for part, run in _checks(config, pathlib.Path(folder), workers):
    try:
      found.append(Finding(part, True, run()))
    except errors.UserError as error:
      found.append(Finding(part, False, str(error)))
  return found, workers


def _checks(
  config: ml_collections.ConfigDict, folder: pathlib.Path, workers: dict[str, int]
) -> Iterator[Check]:
  yield "queries", lambda: _file("config.curate.queries", config.curate.queries)
  yield "policy", lambda: model(config.train_sft.model)
  for name, teacher in _teachers(config).items():
    yield name, lambda teacher=teacher: _teacher(teacher)
  if "evaluate" in config:
    for one in systems.parse(config.evaluate.systems):
      made = one.is_model and _made_by_the_run(one.target, config)
      if one.kind not in (systems.QUERY, systems.TEACHER) and not made:
        yield f"system {one.name}", lambda one=one: _system(one, config)
    yield "suites", lambda: _suites(config.evaluate)
  for name, video in video_models(config).items():
    yield f"{name}: video model", lambda video=video: _video_model(video)
    yield f"{name}: reward", lambda video=video: _scorer(video)
    yield (
      f"{name}: interpreters",
      lambda name=name, video=video: _interpreters(video, folder / name, name, workers),
    )
  yield "disk", lambda: _disk(config, folder)
  meshes: dict[str, list[str]] = {}  # stages by mesh
  for stage in ("train_sft", "sample", config.export.trained):
    meshes.setdefault(config[stage].mesh.to_json(), []).append(stage)
  for mesh, names in meshes.items():
    yield (
      f"devices of {' and '.join(names)}",
      lambda mesh=mesh: child.call("devices", _make_mesh, json.loads(mesh)),
    )


def _suites(config: ml_collections.ConfigDict) -> str:
  """Reads the queries of every suite whose files exist before the run."""
  evaluate.check(config)
  chosen = suites.parse(config.suites)
  for suite in chosen:
    keys = [one.key for one in suite.inputs(config)]
    named = {key: stages.named_input(config, key) for key in keys}
    if all(named.values()):
      suite.load(config, {key: epath.Path(path) for key, path in named.items()})
  return ", ".join(suite.name for suite in chosen)


def video_models(
  config: ml_collections.ConfigDict,
) -> dict[str, ml_collections.ConfigDict]:
  """The configs of all stages that render, without those that name no renderer."""
  found = {"score_videos": config.score_videos}
  if "evaluate" in config:
    for name, video in config.evaluate.video_models.items():
      if setup.is_named(video) and not _same(video, config.score_videos):
        found[f"evaluate.{name}"] = video
  return found


def _same(one: ml_collections.ConfigDict, two: ml_collections.ConfigDict) -> bool:
  parts = ("renderer", "scorer", "bridge")
  return all(one[part].to_dict() == two[part].to_dict() for part in parts)


def _teachers(
  config: ml_collections.ConfigDict,
) -> dict[str, ml_collections.ConfigDict]:
  """The configs of the model APIs that the run calls, without duplicates."""
  found = {
    "teacher of build_sft": config.build_sft.teacher,
    "judge of text_pairs": config.text_pairs.teacher,
  }
  if config.curate.safety.judge:
    found["judge of curate"] = config.curate.teacher
  if "evaluate" in config:
    found["teacher of evaluate"] = config.evaluate.build_sft.teacher
    found["judge of evaluate"] = config.evaluate.alignment.teacher
  unique: dict[str, ml_collections.ConfigDict] = {}
  for name, teacher in found.items():
    if all(teacher.to_dict() != other.to_dict() for other in unique.values()):
      unique[name] = teacher
  return unique


def _system(one: systems.System, config: ml_collections.ConfigDict) -> str:
  """Checks what a system of the evaluation needs; returns what it is."""
  found = systems.check(one, config.evaluate)
  if one.is_model:
    return model(one.target)
  if one.kind == systems.LLM:
    return _teacher(systems.llm_settings(one, config.evaluate).teacher)
  if one.kind == systems.PROMPTIST:
    name = systems.promptist_model(one, config.evaluate)
    if not pathlib.Path(name).is_dir():
      return _on_the_hub(name, config.evaluate.promptist.revision)
  return found


def _made_by_the_run(path: str, config: ml_collections.ConfigDict) -> bool:
  first = path.partition("/")[0]
  variants = [text.split()[0] for text in config.get("variants", ())]
  return first in ("train_sft", config.export.trained, "vpo", *variants)


def _file(key: str, path: str) -> str:
  if not path:
    raise errors.UserError(f"{key} is empty; name a file of queries")
  if not epath.Path(path).exists():
    raise errors.UserError(f"{key}: {path} does not exist")
  return path


def model(name: str) -> str:
  """Checks a language model without loading it; returns its name and size.

  Raises:
    UserError: there is no such directory or hub id, or a file is missing or malformed.
  """
  if name != source.SMOLLM2 and not epath.Path(name).exists():
    return _on_the_hub(name, "")
  return f"{name}, {parameters(name) / 1e9:.3g}B parameters"


def parameters(model: str) -> int:
  """The number of parameters of a model, whose weight files are checked.

  Raises:
    UserError: a file is missing or malformed.
  """
  folder = source.resolve(model)
  return weights.check(folder, decoder_config.read(folder))


def checkpoint_bytes(config: ml_collections.ConfigDict, policy: str) -> int:
  """The bytes that a training run writes: its checkpoints and the trained model.

  A checkpoint has the weights and Adam's two moments in float32. The best checkpoint is
  kept in addition to the latest ones.
  """
  size = parameters(policy)
  return 12 * size * (config.keep_checkpoints + 1) + 4 * size


def _disk(config: ml_collections.ConfigDict, folder: pathlib.Path) -> str:
  """Compares the free space with the checkpoints' size; without the videos."""
  policy = config.train_sft.model
  if not epath.Path(policy).exists():
    return "not checked: the policy is not on this machine yet"
  needed = checkpoint_bytes(config.train_sft, policy)
  needed += checkpoint_bytes(config[config.export.trained], policy)
  free = shutil.disk_usage(folder.parent if folder.parent.exists() else ".").free
  line = f"{free / 1e9:,.0f} GB free, checkpoints need {needed / 1e9:,.0f} GB"
  if free < needed:
    raise errors.UserError(f"--workdir={folder.parent}: {line}")
  return line


def _teacher(config: ml_collections.ConfigDict) -> str:
  queue.check(config)
  return f"{config.model} ({config.server or config.base_url or 'OpenAI'})"


def _video_model(config: ml_collections.ConfigDict) -> str:
  settings, name = identity.settings(config.renderer)
  folder = pathlib.Path(name)
  if settings["renderer"] not in ("diffusers", "command"):
    return name
  if not folder.is_dir():
    if settings["renderer"] == "command":
      raise errors.UserError(f"config.renderer.model: {name} is not a directory")
    return _on_the_hub(name, config.renderer.revision)
  if settings["renderer"] == "diffusers" and not (folder / "model_index.json").exists():
    raise errors.UserError(
      f"config.renderer.model: {folder} has no model_index.json, so it is not a"
      " diffusers pipeline"
    )
  return name


def _scorer(config: ml_collections.ConfigDict) -> str:
  loaded = identity.load_questions(config.scorer)
  name = config.scorer.model
  asked = f", {len(loaded.texts)} questions" if loaded.texts else ""
  if config.scorer.name == "visionreward" and not pathlib.Path(name).is_dir():
    return _on_the_hub(name, config.scorer.revision) + asked
  return (name or config.scorer.name) + asked


def _on_the_hub(name: str, revision: str) -> str:
  """Asks the hub for a model's files without downloading them."""
  import huggingface_hub
  from huggingface_hub import errors as hub_errors

  try:
    found = huggingface_hub.HfApi().model_info(name, revision=revision or None)
  except (hub_errors.HFValidationError, hub_errors.HfHubHTTPError) as error:
    raise errors.UserError(
      f"model {name!r}: no such directory, and not on the hub"
      f" ({type(error).__name__}); a gated model needs `hf auth login`"
    ) from error
  except Exception as error:  # of the HTTP library, which differs by version
    raise errors.UserError(
      f"model {name!r}: no such directory, and the hub cannot be reached"
      f" ({type(error).__name__})"
    ) from error
  return f"{name}@{found.sha}"


def _interpreters(
  config: ml_collections.ConfigDict,
  folder: pathlib.Path,
  part: str,
  workers: dict[str, int],
) -> str:
  """Lets both interpreters import their packages and count their devices.

  Args:
    workers: gets the number of rendering workers, under `part`.
  """
  settings, name = identity.settings(config.renderer)
  link = jobs.Jobs(config, settings, name)
  plans = link.plans(link.write(folder, folder / "store"))
  workers[part] = len(plans["render"].devices)
  parts = []
  for task, plan in plans.items():
    place = "GPUs" if plan.on_gpu else "CPU workers"
    parts.append(f"{task}: {len(plan.devices)} {place}")
  return ", ".join(parts)


def _make_mesh(sizes: dict[str, int]) -> str:
  mesh = sharding.make_mesh(sizes)
  kinds = ", ".join({device.device_kind for device in jax.devices()})
  return f"{mesh.size} of {jax.device_count()} ({kinds})"
