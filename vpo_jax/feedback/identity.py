"""What identifies a renderer and a scorer in the ids of their results.

A stored result is reused by another run, folder or machine if and only if everything
that can change it is the same.
"""

import concurrent.futures
import json
import pathlib
from typing import Any

import ml_collections

from torch_bridge import contract, questions, renderers, scorers
from vpo_jax import errors

_READERS = 8  # files that are hashed at once
_VISIONREWARD = "visionreward"
_LORA_FILE = "pytorch_lora_weights.safetensors"  # as diffusers names it

# Settings that every renderer needs, and those that diffusers needs in addition.
_REQUIRED = ("num_frames", "fps")
_DIFFUSERS = (
  "pipeline",
  "dtype",
  "height",
  "width",
  "num_inference_steps",
  "guidance_scale",
  "text_tokens",
)


def settings(config: ml_collections.ConfigDict) -> tuple[dict[str, Any], str]:
  """Everything that changes the frames, and the model's name.

  Args:
    config: `renderer` of configs/bridge.py.

  Raises:
    UserError: no renderer is named, the preset is unknown, a required setting is
      missing, or the model is in a bucket.
  """
  if not (config.preset or config.name or config.model):
    presets = ", ".join(sorted(contract.presets()))
    raise errors.UserError(
      f"config.renderer.preset: name a video model: {presets}, or a JSON file of"
      f" settings; or set renderer.name ({', '.join(sorted(renderers.NAMES))}, or your"
      " module), renderer.model and renderer.settings"
    )
  try:
    found = contract.preset(config.preset) if config.preset else {}
  except KeyError as error:
    raise errors.UserError(f"config.renderer.preset: {error.args[0]}") from error
  found |= {key: value for key, value in config.settings.to_dict().items() if value}
  found.setdefault("encoding", {"codec": config.codec, "crf": config.crf})
  source = found.pop("source", "")
  model = config.model or found.get("model", "")
  found.pop("model", None)
  if not model:
    note = f" (preset {config.preset}: {source})" if source else ""
    raise errors.UserError(
      f"config.renderer.model: name a model directory or a hub id{note}"
    )
  _check_is_local("renderer.model", model)
  found["renderer"] = config.name or found.get("renderer", "diffusers")
  required = _REQUIRED + (_DIFFUSERS if found["renderer"] == "diffusers" else ())
  if missing := [name for name in required if name not in found]:
    raise errors.UserError(
      f"config.renderer.settings: set {', '.join(missing)}, or name a renderer.preset"
    )
  if config.lora.path:
    _check_lora(config.lora.path, found["renderer"])
  return found, model


def _check_lora(path: str, renderer: str) -> None:
  if renderer != "diffusers":
    raise errors.UserError(
      f"config.renderer.lora: the renderer {renderer} takes none, only diffusers"
    )
  _check_is_local("renderer.lora.path", path)
  if not (pathlib.Path(path) / _LORA_FILE).is_file():
    raise errors.UserError(
      f"config.renderer.lora.path={path}: has no {_LORA_FILE}; name the folder of a"
      " LoRA in diffusers' form"
    )


def _check_is_local(key: str, path: str) -> None:
  if path.startswith(("gs://", "s3://")):
    raise errors.UserError(
      f"config.{key}={path}: the bridge's workers need a local path; copy it to a disk"
    )


def video_model(
  config: ml_collections.ConfigDict, name: str, cache: pathlib.Path
) -> str:
  """The identity of the renderer's model, with its LoRA if it has one.

  Args:
    config: `renderer` of configs/bridge.py.
    name: the model's, from `settings`.
    cache: see `model`.
  """
  found = model(name, config.revision, cache)
  if not config.lora.path:
    return found
  lora = model(config.lora.path, "", cache).removeprefix("directory:")
  return f"{found}+lora:{lora}*{config.lora.scale or 1.0:g}"


def model(name: str, revision: str, cache: pathlib.Path) -> str:
  """A hash of a model directory's content, or a hub id with its revision.

  Hidden files and folders, and `__pycache__`, are not hashed.

  Args:
    cache: folder that keeps the files' hashes, so that a file is read again only if its
      size or modification time differs.
  """
  folder = pathlib.Path(name)
  if not folder.is_dir():
    return f"{name}@{revision or 'main'}"
  paths = [
    path
    for path in sorted(folder.rglob("*"))
    if path.is_file() and not _is_hidden(path.relative_to(folder))
  ]
  known_file = cache / f"{contract.content_id(str(folder.resolve()))}.json"
  known = _read_hashes(known_file)

  def hashed(path: pathlib.Path) -> list[Any]:
    status = path.stat()
    found = known.get(str(path.relative_to(folder)))
    if found and found[:2] == [status.st_size, status.st_mtime_ns]:
      return found
    return [status.st_size, status.st_mtime_ns, contract.sha256(path)]

  with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
    found = zip(paths, pool.map(hashed, paths), strict=True)
    hashes = {str(path.relative_to(folder)): row for path, row in found}
  if hashes != known:
    with contract.publish(known_file) as file:
      file.write(json.dumps(hashes, indent=1).encode())
  content = [[path, sha256] for path, (_, _, sha256) in hashes.items()]
  return f"directory:{contract.content_id(content)}"


def _is_hidden(path: pathlib.Path) -> bool:
  return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _read_hashes(path: pathlib.Path) -> dict[str, list[Any]]:
  """Size, modification time in ns and SHA-256 by file; empty if nothing is cached."""
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
    return {
      name: [size, mtime, digest] for name, (size, mtime, digest) in found.items()
    }
  except (OSError, ValueError, TypeError, AttributeError):
    return {}


def load_questions(config: ml_collections.ConfigDict) -> questions.Questions:
  """The scorer's questions; none if the config names no file.

  Args:
    config: `scorer` of configs/bridge.py.

  Raises:
    UserError: no scorer is named, a question or weight file is missing or malformed, or
      a file is in a bucket.
  """
  if not config.name:
    raise errors.UserError(
      f"config.scorer.name: name a scorer: {', '.join(sorted(scorers.NAMES))}, or your"
      " module (torch_bridge/README.md)"
    )
  for key in ("model", "questions", "weights"):
    _check_is_local(f"scorer.{key}", config[key])
  if not config.questions:
    if config.name == _VISIONREWARD:
      raise errors.UserError(
        f"config.scorer.questions: name the question file of {_VISIONREWARD}, and"
        " scorer.weights its weight file (torch_bridge/README.md says where they are)"
      )
    return questions.NONE
  try:
    return questions.load(config.questions, config.weights)
  except ValueError as error:
    raise errors.UserError(f"config.scorer: {error}") from error


def scorer(
  config: ml_collections.ConfigDict,
  loaded: questions.Questions,
  own: str,
  cache: pathlib.Path,
) -> str:
  """The id of a scorer: a hash of everything that its answers depend on.

  The question weights are not hashed, because they do not change the answers.

  Args:
    loaded: its questions.
    own: the result of the scorer module's `identity(spec)`. If it is "", the model and
      its revision identify the scorer.
    cache: see `model`.
  """
  source = own or (
    model(config.model, config.revision, cache) if config.model else config.revision
  )
  # `frames` is the only option that changes what a model sees.
  frames = config.options.get("frames", 0)
  return contract.content_id(config.name, source, loaded.fingerprint, frames)
