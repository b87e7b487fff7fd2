"""Prompts of an LLM with a message template, such as GLM-4 with CogVideo's messages.

The LLM is called like the teacher: replies are journaled, calls are retried, a dry run
estimates the cost.
"""

import functools
import re
from typing import Literal

import ml_collections
from etils import epath

from vpo_jax import errors, records, stages
from vpo_jax import queries as queries_lib
from vpo_jax.evaluate.systems import made, message_template, row
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import few_shot, queue, staged
from vpo_jax.teacher import texts as texts_lib

_QUOTES = {'"': '"', "“": "”", "'": "'", "‘": "’", "`": "`", "[": "]"}
# How the client names a completion without choices that cost nothing.
_NO_CHOICES = re.compile(r"['\"]choices['\"]: \[\]")


def settings(
  system: row.System, config: ml_collections.ConfigDict
) -> ml_collections.ConfigDict:
  """A copy of the system's entry of `config.llms`, with its template's settings.

  Raises:
    UserError: there is no such entry, or its template cannot be used.
  """
  key = system.target
  if key not in config.llms:
    known = ", ".join(config.llms) or "none"
    raise errors.UserError(
      f"config.systems: {system.name}=llm {key}: config.llms has no {key!r}, only"
      f" {known}"
    )
  found = config.llms[key].copy_and_resolve_references()
  if not found.template:
    raise errors.UserError(
      f"config.llms.{key}.template is empty; make one with launch/make_llm_template.py"
      " (docs/baselines.md)"
    )
  for name, value in message_template.load(found.template).dump()["settings"].items():
    found.teacher[name] = value
  return found


def write(
  system: row.System,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  place: epath.Path,
  root: epath.PathLike,
) -> None:
  """Lets the LLM write one prompt per query.

  Raises:
    UserError: as `settings`, or as the stage raises it.
  """
  named = made.named(settings(system, config), queries=queries)
  stages.run(_STAGE, named, place, root)


def clean(reply: str) -> str:
  """The prompt in a reply: one line, without quotes or brackets around the whole."""
  text = few_shot.paragraph(reply)
  end = _QUOTES.get(text[:1])
  if end and len(text) > 1 and text.endswith(end) and end not in text[1:-1]:
    text = text[1:-1].strip()
  return text


def _run(work: stages.Work) -> stages.Counts | stages.Unfinished:
  template = message_template.load(work.inputs["template"])
  rows, _ = queries_lib.load(work.inputs["queries"])

  async def chain(ask: ask_lib.Ask, query: records.Query) -> made.Answer:
    empty = False

    def read(text: str) -> made.Answer | None:
      nonlocal empty
      empty = not text.strip()
      return _answer(text, "stop")

    def read_cut(text: str) -> made.Answer | None:
      return _answer(text, "length")

    try:
      answer, _ = await ask(template.messages(query.text), read, read_cut)
    except ask_lib.NoAnswer as error:
      if not empty and not _NO_CHOICES.search(str(error)):
        raise
      if template.empty == "refusal":
        raise ask_lib.NoAnswer("refused", "an empty reply") from error
      return made.Answer(query.text, "empty")
    return answer

  finish = functools.partial(made.finish, work, rows, source=work.config.teacher.model)
  return staged.run(work, rows, chain, texts_lib.Texts(), finish)


def _answer(text: str, ending: Literal["stop", "length"]) -> made.Answer | None:
  """The prompt in a reply; None if it is empty or a refusal in words."""
  prompt = "" if ask_lib.declines(text) else clean(text)
  return made.Answer(prompt, ending) if prompt else None


_STAGE = stages.Stage(
  name=made.STAGE,
  run=_run,
  inputs=(stages.Input("queries"), stages.Input("template")),
  execution_keys=queue.EXECUTION_KEYS,
)
