"""Asks a model whether queries are unsafe (paper, section 3.2).

VidProM's labels are scores of Detoxify, which makes mistakes, so `curate` checks its
safety-related candidates here.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import records, templates
from vpo_jax.runtime import console
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import plan as plan_lib
from vpo_jax.teacher import queue
from vpo_jax.teacher import texts as texts_lib

# The paper's figure 7.
CATEGORIES = (
  "Pornography",
  "Violence",
  "Illegal",
  "Ethics",
  "Bloody",
  "Disturbing",
  "Extreme horror",
  "Bias",
  "Sensitive topics",
)
_LINE = r"^[\s*_#>-]*{}\s*\**\s*:\**[^\S\n]*(.*?)\s*$"
_CATEGORIES = re.compile(_LINE.format("Categories"), re.IGNORECASE | re.MULTILINE)
_REASON = re.compile(_LINE.format("Reason"), re.IGNORECASE | re.MULTILINE)


def check(config: ml_collections.ConfigDict, template: str) -> None:
  """Checks the template, key and server, before a stage writes its first file.

  Args: as in `judge`.

  Raises:
    UserError: the template is invalid, or the teacher cannot be used.
  """
  templates.load("safety", template)
  queue.check(config)


def judge(
  queries: Sequence[records.Query],
  *,
  config: ml_collections.ConfigDict,
  template: str,
  folder: epath.PathLike,
) -> list[records.SafetyLabel]:
  """Returns labels of the queries that got an answer, in the order of the queries.

  Args:
    config: the teacher's config (configs/teacher.py).
    template: path of the user's own template, or "".
    folder: contains the journal, unless the config names another.

  Raises:
    UserError: the template or the teacher cannot be used.
  """
  text = templates.load("safety", template)
  if not queries:
    return []
  outcomes, _ = queue.answer(
    "safety",
    queries,
    functools.partial(label, template=text),
    config=config,
    folder=folder,
    texts=texts_lib.Texts(safety=text),
  )
  labels = [label for label in outcomes if not isinstance(label, ask_lib.NoAnswer)]
  if len(labels) < len(queries):
    missing = len(queries) - len(labels)
    console.say(f"safety: no answer about {missing} of {len(queries)} queries")
  return labels


def plan(
  queries: Sequence[records.Query],
  *,
  config: ml_collections.ConfigDict,
  template: str,
  folder: epath.PathLike,
) -> dict[str, Any]:
  """Prints and returns the estimated cost of `judge`, and sends nothing."""
  return plan_lib.plan(
    "safety",
    queries,
    functools.partial(label, template=templates.load("safety", template)),
    config=config,
    folder=folder,
  )


async def label(
  ask: ask_lib.Ask, query: records.Query, *, template: str
) -> records.SafetyLabel:
  """Asks about one query.

  Raises:
    ask.NoAnswer: the model gave no usable reply.
  """
  content = templates.fill(template, query=query.text)
  messages = [{"role": "user", "content": content}]
  (unsafe, categories, reason), _ = await ask(messages, read)
  return records.SafetyLabel(query.id, query.text, unsafe, categories, reason)


def read(reply: str) -> tuple[bool, tuple[str, ...], str] | None:
  """Reads whether the query is unsafe, the categories, and the reason.

  Returns: None if the reply has no verdict.
  """
  unsafe = templates.judgement(reply)
  if unsafe is None:
    return None
  listed = " ".join(_CATEGORIES.findall(reply)).lower()
  categories = tuple(name for name in CATEGORIES if unsafe and name.lower() in listed)
  return unsafe, categories, " ".join(_REASON.findall(reply))
