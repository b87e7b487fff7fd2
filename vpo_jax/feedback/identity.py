"""What stands for a renderer and a scorer in the ids of their results.

A result is found again by another run, another place or another machine if and only if
all that could change it is the same.
"""

import pathlib
from typing import Any

import ml_collections

from torch_bridge import contract, questions
from vpo_jax import errors

OWN_CHECKLIST = str(
  pathlib.Path(contract.__file__).parent / "scorers" / "checklist.json"
)


def settings(config: ml_collections.ConfigDict) -> tuple[dict[str, Any], str]:
  """All that changes the frames, and the model's name."""
  try:
    found = contract.preset(config.preset) if config.preset else {}
  except KeyError as error:
    raise errors.UserError(f"renderer.preset: {error.args[0]}") from error
  found |= {key: value for key, value in config.settings.to_dict().items() if value}
  found.setdefault("encoding", {"codec": config.codec, "crf": config.crf})
  found.pop("source", None)
  model = config.model or found.pop("model", "")
  found.pop("model", None)
  if not model:
    raise errors.UserError("renderer.model: name a directory, a hub id or a preset")
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


def scorer(config: ml_collections.ConfigDict, asked: questions.Questions) -> str:
  """The scorer's model and questions; not the weights, which change no answer."""
  if config.model:
    made_of = model(config.model, config.revision)
  else:
    made_of = contract.sha256(pathlib.Path(OWN_CHECKLIST).with_name("measures.py"))
  return contract.content_id(config.name, made_of, asked.fingerprint)
