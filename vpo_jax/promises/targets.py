"""Target profiles: what a text-to-video model reads of a prompt.

A profile is a JSON file, either of configs/targets or the user's own:

    {
      "tokenizer": "THUDM/CogVideoX-5b/tokenizer",
      "tokens": 226,
      "language": "en",
      "notes": "The model reads plain sentences.",
      "negative_prompt": true,
      "suffix": ""
    }

Only "tokenizer" and "tokens" are required. The pipelines of Wan tidy a prompt's spaces
before they count its tokens; counts here are of the prompt as it is.
"""

import dataclasses
import os
from typing import Any

import pydantic
from etils import epath

from vpo_jax import errors, json_input

FOLDER = epath.Path(__file__).parents[2] / "configs" / "targets"


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class Profile:
  """A file's content.

  Attributes:
    tokenizer: of the video model's text encoder. A directory, absolute or relative to
      the file; or a hub id, which may be followed by a folder.
    tokens: how many the text encoder reads, special tokens included.
    language: code of the language that prompts must be in; "" allows any.
    notes: about the style of prompts. They are put into the model's instruction, if it
      has the placeholder {notes}.
    negative_prompt: whether the model takes one.
    suffix: what the model's own inference adds to a prompt.
    source: where these values are from; not used.
  """

  tokenizer: str = pydantic.Field(min_length=1)
  tokens: int = pydantic.Field(ge=1, strict=True)
  language: str = "en"
  notes: str = ""
  negative_prompt: bool = pydantic.Field(default=True, strict=True)
  suffix: str = ""
  source: str = ""


@dataclasses.dataclass(frozen=True)
class Target:
  """A profile with its tokenizer.

  Attributes:
    name: the profile's file name without its ending.
    profile: the file's content.
    tokenizer: transformers' tokenizer.
  """

  name: str
  profile: Profile
  tokenizer: Any

  def count(self, prompt: str) -> int:
    """Tokens of a prompt with the suffix, special tokens included."""
    text = prompt + self.profile.suffix
    return len(self.tokenizer(text, verbose=False)["input_ids"])

  def reads(self, prompt: str) -> bool:
    """Whether the video model reads all of the prompt."""
    return self.count(prompt) <= self.profile.tokens


def names() -> list[str]:
  """The profiles of configs/targets."""
  return sorted(path.stem for path in FOLDER.iterdir() if path.suffix == ".json")


def find(name: str) -> epath.Path:
  """The file of a profile.

  Args:
    name: one of `names`, or the path of a JSON file.

  Raises:
    UserError: there is no such profile.
  """
  path = epath.Path(name) if name.endswith(".json") else FOLDER / f"{name}.json"
  if not path.exists():
    known = ", ".join(names())
    raise errors.UserError(
      f"target {name!r}: give a JSON file, or one of {known} (configs/targets)"
    )
  return path


def load(name: epath.PathLike) -> Target:
  """Reads a profile and its tokenizer.

  Args:
    name: see `find`.

  Raises:
    UserError: as `find`, a key is unknown or of another type, or the tokenizer cannot
      be read.
  """
  path = find(os.fspath(name))
  profile = _profile(path)
  return Target(path.stem, profile, _tokenizer(path, profile.tokenizer))


def _profile(path: epath.Path) -> Profile:
  value = json_input.value(path)
  if json_input.repair(value) != value:
    raise errors.UserError(f"{path}: a string has half of a surrogate pair")
  try:
    return pydantic.TypeAdapter(Profile).validate_python(value)
  except pydantic.ValidationError as error:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    raise errors.UserError(
      f"{path}: not a target profile: {f'{where}: ' if where else ''}{first['msg']}"
    ) from error


def _tokenizer(path: epath.Path, name: str) -> Any:
  import transformers

  folder = path.parent / name  # an absolute name replaces the parent
  if folder.is_dir():
    model, inside = str(folder), ""
  else:
    owner, _, rest = name.partition("/")
    model, _, inside = rest.partition("/")
    model = f"{owner}/{model}" if model else owner
  try:
    return transformers.AutoTokenizer.from_pretrained(model, subfolder=inside)
  except (OSError, ValueError, KeyError) as error:
    raise errors.UserError(
      f"{path}: tokenizer {name!r}: neither a directory with a tokenizer nor one that"
      " can be downloaded from the hub"
    ) from error
