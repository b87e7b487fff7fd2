"""A row of `config.systems`: what stands between a user's query and the video model."""

import dataclasses
import re
from collections.abc import Callable, Sequence

from vpo_jax import errors

QUERY = "query"  # the query itself
TEACHER = "teacher"  # the teacher's few-shot prompt, neither judged nor refined
MODEL = "model"  # a language model of this project's format
PROMPTS = "prompts"  # a file of prompts
LLM = "llm"  # an LLM with a message template
PROMPTIST = "promptist"
PROMPT_A_VIDEO = "prompt_a_video"

# The options of each kind; of those in `_NEEDED` none may be left out.
_OPTIONS = {
  QUERY: (),
  TEACHER: (),
  MODEL: ("instruction", "for"),
  PROMPTS: ("queries",),
  LLM: (),
  PROMPTIST: (),
  PROMPT_A_VIDEO: ("template",),
}
_NEEDED = {PROMPT_A_VIDEO: "template"}
# Kinds whose first word is followed by a name: of a file, a key of the config, a model.
_NAMED = {PROMPTS: "FILE", LLM: "KEY", PROMPTIST: "", PROMPT_A_VIDEO: "MODEL"}
_OPTION = re.compile(r"\s(instruction|queries|template|for)=")
_FORM = (
  "must be NAME=SOURCE [OPTION=VALUE] [of NAME]; a name has letters, digits, _ and -,"
  " and occurs once"
)


@dataclasses.dataclass(frozen=True)
class System:
  """A row of `config.systems`.

  Attributes:
    source: `QUERY`, `TEACHER`, a model (directory, hub id, embedded model), or another
      kind and what it needs: "prompts FILE", "llm KEY", "promptist [MODEL]",
      "prompt_a_video MODEL".
    of: the system whose prompts are this system's queries; "" means the users' queries.
    instruction: template file of a model; "" is the model's own.
    queries: the file whose lines a file of prompts follows; "" if each of its rows has
      its query.
    profile: of the video model whose notes a model's instruction gets
      (`vpo_jax.promises.targets`); "" leaves them out.
  """

  name: str
  source: str
  of: str = ""
  instruction: str = ""
  queries: str = ""
  profile: str = ""

  @property
  def kind(self) -> str:
    """`QUERY`, `TEACHER`, `MODEL`, `PROMPTS`, ..."""
    first = self.source.split(maxsplit=1)[0]
    return first if first in _OPTIONS and first != MODEL else MODEL

  @property
  def target(self) -> str:
    """The source without its kind: a file, a key or a model; "" if there is none."""
    if self.kind == MODEL:
      return self.source
    return self.source.removeprefix(self.kind).strip()

  @property
  def is_model(self) -> bool:
    """Whether it is a model that this project samples from."""
    return self.kind in (MODEL, PROMPT_A_VIDEO)

  def located(self, find: Callable[[str], str]) -> "System":
    """A copy whose files and folders are those that `find` returns for their names."""
    source = self.source
    if self.kind == MODEL:
      source = find(source)
    elif self.target and self.kind != LLM:
      source = f"{self.kind} {find(self.target)}"
    return dataclasses.replace(
      self,
      source=source,
      instruction=find(self.instruction),
      queries=find(self.queries),
    )


def parse(rows: Sequence[str]) -> tuple[System, ...]:
  """The systems of rows such as "vpo=vpo" and "vpo_2=vpo of vpo".

  Raises:
    UserError: there are fewer than two systems, a row has another form, a name occurs
      twice, or the system after `of` is not named in an earlier row.
  """
  found: dict[str, System] = {}
  for row in rows:
    system = _parse(row)
    if system.name in found:
      raise errors.UserError(f"config.systems: {row!r}: {_FORM}")
    if system.of and system.of not in found:
      raise errors.UserError(
        f"config.systems: {row!r}: no earlier row is named {system.of!r}"
      )
    found[system.name] = system
  if len(found) < 2:
    raise errors.UserError("config.systems: name two or more systems to compare")
  return tuple(found.values())


def _parse(row: str) -> System:
  name, _, rest = row.partition("=")
  rest, _, of = rest.partition(" of ")
  source, *parts = _OPTION.split(rest)
  options = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
  if not (re.fullmatch(r"[\w-]+", name) and source.strip()):
    raise errors.UserError(f"config.systems: {row!r}: {_FORM}")
  template = options.get("template", "")
  system = System(
    name,
    source.strip(),
    of.strip(),
    options.get("instruction", template),
    options.get("queries", ""),
    options.get("for", ""),
  )
  kind = system.kind
  for option in options:
    if option not in _OPTIONS[kind]:
      raise errors.UserError(f"config.systems: {row!r}: {_only(option)}")
  needed = _NAMED.get(kind, "")
  if needed and not system.target:
    raise errors.UserError(
      f"config.systems: {row!r}: name it, as in {name}={kind} {needed}"
    )
  if kind not in (*_NAMED, MODEL) and system.target:
    raise errors.UserError(
      f"config.systems: {row!r}: nothing but `of NAME` may follow {kind!r}"
    )
  if kind in _NEEDED and not options.get(_NEEDED[kind]):
    raise errors.UserError(
      f"config.systems: {row!r}: {_NEEDED[kind]}=FILE is missing"
      " (docs/baselines.md says how to make the file)"
    )
  if kind == PROMPTS and system.of:
    raise errors.UserError(
      f"config.systems: {row!r}: a file of prompts cannot rewrite other prompts"
    )
  return system


def _only(option: str) -> str:
  has = {
    "instruction": "only a model has an instruction",
    "for": "only a model writes for a target",
    "queries": "only a file of prompts has queries",
    "template": "only prompt_a_video has a template",
  }
  return has[option]
