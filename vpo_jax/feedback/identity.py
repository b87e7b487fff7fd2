"""What stands for a renderer and a scorer in the ids of their results.

A result is found again by another run, another place or another machine if and only if
all that could change it is the same.
"""

import pathlib
from typing import Any

import ml_collections

from torch_bridge import contract, questions, scorers
from torch_bridge.scorers import base
from vpo_jax import errors

# Scorers that need no model: what they ask, and what code answers, they say themselves.
_MEASURING = ("checklist", "miniature")
# What every renderer's settings must say, and what diffusers' must besides.
_NEEDED = ("num_frames", "fps")
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
  """All that changes the frames, and the model's name.

  Raises:
    UserError: no such preset, or something that the renderer needs is not set.
  """
  try:
    found = contract.preset(config.preset) if config.preset else {}
  except KeyError as error:
    raise errors.UserError(f"renderer.preset: {error.args[0]}") from error
  found |= {key: value for key, value in config.settings.to_dict().items() if value}
  found.setdefault("encoding", {"codec": config.codec, "crf": config.crf})
  source = found.pop("source", "")
  model = config.model or found.pop("model", "")
  found.pop("model", None)
  if not model:
    said = f" (preset {config.preset}: {source})" if source else ", or a preset"
    raise errors.UserError(f"renderer.model: name a directory or a hub id{said}")
  found["renderer"] = config.name or found.get("renderer", "diffusers")
  needed = _NEEDED + (_DIFFUSERS if found["renderer"] == "diffusers" else ())
  if missing := [name for name in needed if name not in found]:
    raise errors.UserError(
      f"renderer.settings: {', '.join(missing)} not set; a preset sets all"
    )
  return found, model


def _small_content(path: pathlib.Path) -> str:
  """A small file's hash; a large one is known by its size and its first bytes."""
  with path.open("rb") as file:
    return contract.content_id(file.read(1 << 20).hex())


def model(name: str, revision: str) -> str:
  """A model directory's content, or a hub id with its revision."""
  folder = pathlib.Path(name)
  if not folder.is_dir():
    return f"{name}@{revision or 'main'}"
  parts = [
    [str(path.relative_to(folder)), path.stat().st_size, _small_content(path)]
    for path in sorted(folder.rglob("*"))
    if path.is_file() and not path.name.startswith(".")
  ]
  return f"directory:{contract.content_id(parts)}"


def asked(config: ml_collections.ConfigDict) -> questions.Questions:
  """A scorer's questions: its own, or the checklist's, where the config names none.

  Raises:
    UserError: a question or weight file is missing or wrong.
  """
  try:
    if config.name in _MEASURING:
      return _measuring(config).asked
    return base.asked({"questions": config.questions, "weights": config.weights})
  except ValueError as error:
    raise errors.UserError(f"scorer: {error}") from error


def scorer(config: ml_collections.ConfigDict, asked: questions.Questions) -> str:
  """The scorer's model and questions; not the weights, which change no answer."""
  if config.name in _MEASURING:
    made_of = _measuring(config).revision
  else:
    made_of = model(config.model, config.revision) if config.model else config.revision
  # Of the options only this one changes what a model sees.
  frames = config.options.get("frames", 0)
  return contract.content_id(config.name, made_of, asked.fingerprint, frames)


def _measuring(config: ml_collections.ConfigDict) -> base.Scorer:
  spec = {"questions": config.questions, "weights": config.weights}
  return scorers.module(config.name).make(spec)
