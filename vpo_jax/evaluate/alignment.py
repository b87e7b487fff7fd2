"""Stage alignment: the judge's verdict on each prompt of a system (paper, table 2).

The judge applies the rules of the critique that the systems were trained with.
"""

import dataclasses
import functools

from vpo_jax import errors, records, stages, templates
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import journal, queue, staged
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib

REFUSAL = templates.VERDICTS[-1]


@dataclasses.dataclass(frozen=True)
class Verdict:
  """A judged prompt.

  Attributes:
    verdict: one of `templates.VERDICTS`.
    text: the judge's whole reply; "" for an empty prompt, which is not judged.
  """

  query_id: str
  query: str
  prompt: str
  verdict: str
  text: str


def run(work: stages.Work) -> stages.Counts | stages.Unfinished:
  """Writes verdicts.jsonl, and set_aside.jsonl with the prompts without a verdict.

  Raises:
    UserError: a template or input is wrong, or the judge cannot be used.
  """
  source = work.inputs["candidates"]
  config = work.config
  template = templates.load("alignment", config.template, config.critique_rules)
  rows = list(records.read(source, records.Candidates))
  if not rows:
    raise errors.UserError(f"{source}: holds no prompts")
  chain = functools.partial(judge, template=template)
  texts = texts_lib.Texts(alignment=template)
  return staged.run(work, rows, chain, texts, functools.partial(_finish, work, rows))


def _finish(
  work: stages.Work,
  rows: list[records.Candidates],
  outcomes: list[Verdict | ask_lib.NoAnswer],
  totals: totals_lib.Totals,
) -> stages.Counts:
  given, aside = [], []
  for row, outcome in zip(rows, outcomes, strict=True):
    if isinstance(outcome, ask_lib.NoAnswer):
      prompt = row.candidates[0].prompt
      aside.append(records.SetAside(row.query_id, prompt, str(outcome)))
    else:
      given.append(outcome)
  records.write(work.folder / "verdicts.jsonl", given)
  records.write(work.folder / "set_aside.jsonl", aside)
  verdicts = [row.verdict for row in given]
  return {
    **{verdict: verdicts.count(verdict) for verdict in templates.VERDICTS},
    "set_aside": len(aside),
    **totals.counts(),
  }


async def judge(ask: ask_lib.Ask, row: records.Candidates, *, template: str) -> Verdict:
  """The verdict on one prompt.

  Raises:
    NoAnswer: the judge gave no verdict that can be parsed.
  """
  prompt = row.candidates[0].prompt
  if not prompt.strip():
    return Verdict(row.query_id, row.query, prompt, REFUSAL, "")
  content = templates.fill(template, query=row.query, prompt=prompt)
  messages: list[journal.Message] = [{"role": "user", "content": content}]
  verdict, text = await ask(messages, templates.verdict)
  return Verdict(row.query_id, row.query, prompt, verdict, text)


STAGE = stages.Stage(
  name="alignment",
  run=run,
  inputs=(stages.Input("candidates"),),
  execution_keys=queue.EXECUTION_KEYS,
)
