"""Stage select_queries: test queries of all levels of difficulty (paper, appendix 9).

The paper's 500 queries for table 2 are not released. An LLM rates the difficulty of
held-out queries; the same number of each level is taken, without near-duplicates.
People then check the list by hand: rows that they delete from queries.jsonl are gone.
"""

import dataclasses
import functools
import re

from vpo_jax import errors, records, stages, templates
from vpo_jax import queries as queries_lib
from vpo_jax.curate import near_duplicates
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import journal, queue, staged
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib

LEVELS = (1, 2, 3, 4, 5)
_DIFFICULTY = re.compile(
  r"Final Difficulty[^:\n]*:[\s*_]*([1-5])\b(?!\s*(?:to|or|-|/))", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Rated:
  """A chosen query with its difficulty, 1 to 5; the other fields are `Query`'s."""

  id: str
  text: str
  category: records.Category
  flags: str
  difficulty: int


def run(work: stages.Work) -> stages.Counts | stages.Unfinished:
  """Writes queries.jsonl, and set_aside.jsonl with the queries without a rating.

  Raises:
    UserError: the queries cannot be read, there are too few, or the LLM cannot be used.
  """
  config = work.config
  rows, _ = queries_lib.load(work.inputs["queries"])
  copies = near_duplicates.find((row.text.lower() for row in rows), config.near)
  rows = [row for row, copy in zip(rows, copies, strict=True) if not copy]
  if len(rows) <= config.count:
    raise errors.UserError(
      f"select_queries: {work.inputs['queries']} has {len(rows)} different queries, so"
      f" there are not more than the config.count={config.count} to choose; curate more"
      " with config.sizes.test_general and test_safety"
    )
  template = templates.load("difficulty", config.template)
  chain = functools.partial(rate, template=template)
  texts = texts_lib.Texts(difficulty=template)
  return staged.run(work, rows, chain, texts, functools.partial(_finish, work, rows))


async def rate(ask: ask_lib.Ask, query: records.Query, *, template: str) -> int:
  """The difficulty of one query.

  Raises:
    NoAnswer: no reply names a difficulty.
  """
  content = templates.fill(template, query=query.text)
  messages: list[journal.Message] = [{"role": "user", "content": content}]
  difficulty, _ = await ask(messages, read)
  return difficulty


def read(reply: str) -> int | None:
  """The number after the last `Final Difficulty (1 to 5):`; None if there is none."""
  found = _DIFFICULTY.findall(reply)
  return int(found[-1]) if found else None


def _finish(
  work: stages.Work,
  rows: list[records.Query],
  outcomes: list[int | ask_lib.NoAnswer],
  totals: totals_lib.Totals,
) -> stages.Counts:
  rated, aside = [], []
  for row, outcome in zip(rows, outcomes, strict=True):
    if isinstance(outcome, ask_lib.NoAnswer):
      aside.append(records.SetAside(row.id, row.text, str(outcome)))
    else:
      rated.append(Rated(row.id, row.text, row.category, row.flags, outcome))
  if len(rated) < work.config.count:
    raise errors.UserError(
      f"select_queries: only {len(rated)} of {len(rows)} queries have a rating, and"
      f" config.count={work.config.count} are to be chosen; the first without one:"
      f" {aside[0].reason}"
    )
  chosen = choose(rated, work.config.count, work.config.seed)
  records.write(work.folder / "queries.jsonl", chosen)
  records.write(work.folder / "set_aside.jsonl", aside)
  levels = [row.difficulty for row in chosen]
  return {
    "rated": len(rated),
    "chosen": len(chosen),
    "safety": sum(row.category == "safety" for row in chosen),
    **{f"difficulty_{level}": levels.count(level) for level in LEVELS},
    "set_aside": len(aside),
    **totals.counts(),
  }


def choose(rated: list[Rated], count: int, seed: int) -> list[Rated]:
  """Takes a query of each level in turn until there are `count`; level 5 first.

  Within a level the order is a seeded hash, so that it does not depend on the file.
  """
  order = sorted(rated, key=lambda row: records.row_id(seed, row.id))
  waiting = {
    level: [row for row in order if row.difficulty == level] for level in LEVELS
  }
  chosen: list[Rated] = []
  while len(chosen) < count and any(waiting.values()):
    for level in reversed(LEVELS):
      if waiting[level] and len(chosen) < count:
        chosen.append(waiting[level].pop(0))
  return chosen


STAGE = stages.Stage(
  name="select_queries",
  run=run,
  inputs=(stages.Input("queries", "curate/test.jsonl"),),
  execution_keys=queue.EXECUTION_KEYS,
)
