"""Asks a model whether queries are unsafe (paper, section 3.2).

Detoxify, which labels VidProM, errs; `curate` has its candidates judged here again.
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


def check(
  config: ml_collections.ConfigDict, template: str, folder: epath.PathLike
) -> None:
  """Looks for what `judge` needs, before a stage writes its first file.

  Args: as `judge`'s.

  Raises:
    UserError: the template is wrong, or the teacher cannot be used.
  """
  templates.load("safety", template)
  queue.check(config, folder)


def judge(
  queries: Sequence[records.Query],
  *,
  config: ml_collections.ConfigDict,
  template: str,
  folder: epath.PathLike,
) -> list[records.SafetyLabel]:
  """Labels of the queries that the model gave an answer to, in their order.

  Args:
    config: the teacher's config (configs/teacher.py).
    template: path of the user's own template, or "".
    folder: where the journal is, unless the config names another.

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
  labels = [one for one in outcomes if not isinstance(one, ask_lib.NoAnswer)]
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
  """Prints calls, tokens and cost of `judge`, and sends nothing; args as there."""
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
  (unsafe, found, reason), _ = await ask([{"role": "user", "content": content}], read)
  return records.SafetyLabel(query.id, query.text, unsafe, found, reason)


def read(reply: str) -> tuple[bool, tuple[str, ...], str] | None:
  """Verdict, categories and reason of a reply; None when it has no verdict."""
  unsafe = templates.judgement(reply)
  if unsafe is None:
    return None
  named = " ".join(_CATEGORIES.findall(reply)).lower()
  found = tuple(one for one in CATEGORIES if one.lower() in named) if unsafe else ()
  return unsafe, found, " ".join(_REASON.findall(reply))
