"""Stage alignment: what the judge says of a system's prompts (paper, table 2)."""

import dataclasses
import functools
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors, records, templates
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import journal, staged
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib

NAME = "alignment"
REFUSAL = templates.VERDICTS[-1]


@dataclasses.dataclass(frozen=True)
class Verdict:
  """A prompt after the judge has seen it.

  Attributes:
    verdict: one of `templates.VERDICTS`.
    text: the judge's whole reply; "" for an empty prompt, which nobody has to judge.
  """

  query_id: str
  query: str
  prompt: str
  verdict: str
  text: str


def run(config: ml_collections.ConfigDict, folder: epath.PathLike) -> dict[str, Any]:
  """Writes verdicts.jsonl and set_aside.jsonl (no verdict, whatever was tried).

  Args:
    config: `template` (a file, or "" for the embedded one) and `teacher`.
    folder: the system's.

  Raises:
    UserError: a template or input is wrong, or the judge cannot be used.
  """
  source = epath.Path(folder) / "sample" / "candidates.jsonl"
  template = templates.load("alignment", config.template)
  rows = list(records.read(source, records.Candidates))
  if not rows:
    raise errors.UserError(f"{source}: holds no prompts")

  def finish(
    folder: epath.Path,
    outcomes: list[Verdict | ask_lib.NoAnswer],
    totals: totals_lib.Totals,
  ) -> dict[str, Any]:
    given, aside = [], []
    for row, outcome in zip(rows, outcomes, strict=True):
      if isinstance(outcome, ask_lib.NoAnswer):
        prompt = row.candidates[0].prompt
        aside.append(records.SetAside(row.query_id, prompt, str(outcome)))
      else:
        given.append(outcome)
    records.write(folder / "verdicts.jsonl", given)
    records.write(folder / "set_aside.jsonl", aside)
    said = [row.verdict for row in given]
    return {
      **{verdict: said.count(verdict) for verdict in templates.VERDICTS},
      "set_aside": len(aside),
      **totals.counts(),
    }

  chain = functools.partial(judge, template=template)
  texts = texts_lib.Texts(alignment=template)
  inputs = {"candidates": source}
  return staged.run(NAME, config, folder, inputs, rows, chain, texts, finish)


async def judge(ask: ask_lib.Ask, row: records.Candidates, *, template: str) -> Verdict:
  """The verdict on one prompt.

  Raises:
    NoAnswer: the judge gave none that can be read.
  """
  prompt = row.candidates[0].prompt
  if not prompt.strip():
    return Verdict(row.query_id, row.query, prompt, REFUSAL, "")
  content = templates.fill(template, query=row.asked, prompt=prompt)
  messages: list[journal.Message] = [{"role": "user", "content": content}]
  verdict, text = await ask(messages, templates.verdict)
  return Verdict(row.query_id, row.query, prompt, verdict, text)
