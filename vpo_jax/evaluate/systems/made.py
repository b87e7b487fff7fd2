"""Parts that the kinds of systems share."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import ml_collections
from etils import epath

from vpo_jax import records, stages
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import totals as totals_lib

STAGE = "prompts"  # the folder of a system's prompts, unless a model is sampled


@dataclasses.dataclass(frozen=True)
class Answer:
  """What an LLM made of a query.

  Attributes:
    ending: "length" if the reply was cut off at the token limit, "empty" if it was
      empty and the prompt is the query, else "stop".
  """

  prompt: str
  ending: Literal["stop", "length", "empty"] = "stop"


def candidate(
  query: records.Query,
  prompt: str,
  source: str,
  finish_reason: Literal["stop", "length"] = "stop",
) -> records.Candidates:
  """The row of a prompt that is not sampled from a model of ours."""
  return records.Candidates(
    query_id=query.id,
    query=query.text,
    category=query.category,
    model=source,
    settings={},
    candidates=(records.Candidate(0, prompt, finish_reason, 0),),
    flags=query.flags,
  )


def named(
  config: ml_collections.ConfigDict, **inputs: epath.PathLike
) -> ml_collections.ConfigDict:
  """A copy of a stage's config with its inputs named."""
  found = config.copy_and_resolve_references()
  found.update({key: str(path) for key, path in inputs.items()})
  return found


def finish(
  work: stages.Work,
  rows: Sequence[records.Query],
  outcomes: Sequence[Answer | ask_lib.NoAnswer],
  totals: totals_lib.Totals,
  source: str,
) -> stages.Counts:
  """Writes an LLM's prompts.

  If the LLM refuses a query, its prompt is empty and is rendered as such, because a
  user of that LLM would get nothing else. A query without an answer is set aside.
  """
  made, aside, refused = [], [], 0
  endings = dict.fromkeys(("length", "empty"), 0)
  for query, outcome in zip(rows, outcomes, strict=True):
    if isinstance(outcome, Answer):
      reason = "length" if outcome.ending == "length" else "stop"
      made.append(candidate(query, outcome.prompt, source, reason))
      if outcome.ending in endings:
        endings[outcome.ending] += 1
    elif outcome.kind == "refused":
      refused += 1
      made.append(candidate(query, "", source))
    else:
      aside.append(records.SetAside(query.id, query.text, str(outcome)))
  records.write(work.folder / "candidates.jsonl", made)
  records.write(work.folder / "set_aside.jsonl", aside)
  return {
    "queries": len(rows),
    "candidates": len(made),
    "refused": refused,
    "cut_by_length": endings["length"],
    "query_kept": endings["empty"],
    "set_aside": len(aside),
    **totals.counts(),
  }
