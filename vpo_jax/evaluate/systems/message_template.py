"""The messages by which an LLM rewrites a query, as a JSON file.

    {
      "system": "You rewrite ...",
      "examples": [{"user": "Rewrite: a girl", "assistant": "A girl in ..."}],
      "user": "Rewrite: {query}",
      "settings": {"temperature": 0.01, "top_p": 0.7, "max_tokens": 250},
      "empty": "query"
    }

Only "user" is required. The texts of other projects' rewriters belong to them; they are
read from the user's checkout (`checkout`).
"""

import dataclasses
from typing import Any, Literal

import pydantic
from etils import epath

from vpo_jax import errors, json_input
from vpo_jax.teacher import journal

QUERY = "{query}"
_STRICT = pydantic.ConfigDict(extra="forbid")


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class Example:
  """A turn that is shown before the query."""

  user: str
  assistant: str


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class Settings:
  """Settings of the request; None leaves the config's."""

  temperature: float | None = None
  top_p: float | None = pydantic.Field(default=None, gt=0, le=1)
  max_tokens: int | None = pydantic.Field(default=None, ge=1)


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class Template:
  """A file's content.

  Attributes:
    user: the user's turn, with `QUERY` once.
    system: the system message; "" for none.
    empty: what an empty reply means: the query is used as it is ("query"), or the LLM
      refused ("refusal").
  """

  user: str
  system: str = ""
  examples: tuple[Example, ...] = ()
  settings: Settings = Settings()
  empty: Literal["query", "refusal"] = "refusal"

  def messages(self, query: str) -> list[journal.Message]:
    """The messages that ask for a prompt."""
    found = [{"role": "system", "content": self.system}] if self.system else []
    for example in self.examples:
      found.append({"role": "user", "content": example.user})
      found.append({"role": "assistant", "content": example.assistant})
    return [*found, {"role": "user", "content": self.user.replace(QUERY, query)}]

  def dump(self) -> dict[str, Any]:
    """The content as JSON has it, without settings that are not set."""
    found = dataclasses.asdict(self)
    settings = found["settings"]
    return found | {"settings": {k: v for k, v in settings.items() if v is not None}}


def load(path: epath.PathLike) -> Template:
  """Reads a template file.

  Raises:
    UserError: the file cannot be read, a key is unknown or of another type, or "user"
      does not contain {query} once.
  """
  value = json_input.value(path)
  if json_input.repair(value) != value:
    raise errors.UserError(f"{path}: a string has half of a surrogate pair")
  try:
    found = pydantic.TypeAdapter(Template).validate_python(value)
  except pydantic.ValidationError as error:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    raise errors.UserError(
      f"{path}: not a message template: {f'{where}: ' if where else ''}{first['msg']}"
    ) from error
  if found.user.count(QUERY) != 1:
    raise errors.UserError(
      f"{path}: user: must contain {QUERY} once, found {found.user.count(QUERY)}"
    )
  return found
