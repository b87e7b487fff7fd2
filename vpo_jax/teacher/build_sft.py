"""Stage build_sft: queries in, SFT examples out (paper, section 3.2).

For each query x the teacher writes a prompt p from few-shot examples and a critique c
of p. The SFT target s is p if the critique found no flaw, and the refined prompt
otherwise. Rows that the teacher refused, or whose replies cannot be parsed, are set
aside with the reason.
"""

import functools

import ml_collections

from vpo_jax import errors, files, records, stages, templates
from vpo_jax import queries as queries_lib
from vpo_jax.data import examples as examples_lib
from vpo_jax.data import heldout as heldout_lib
from vpo_jax.promises import targets
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import card, critique, few_shot, queue, refine, staged
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib


def run(work: stages.Work) -> stages.Counts | stages.Unfinished:
  """Writes sft.jsonl, train.json, heldout.json, set_aside.jsonl and the data card.

  The instruction template is written to the same folder; training copies it into the
  model's directory.

  sft.jsonl holds the examples (`records.SftExample`) with every intermediate text.
  train.json and heldout.json are lists of {"messages": [user, assistant]}; the user's
  turn is the instruction template filled with the query.

  Raises:
    UserError: a template or input is wrong, or the teacher cannot be used.
  """
  config = work.config
  if not 0 <= config.heldout < 1:
    raise errors.UserError(f"config.heldout={config.heldout}: must be in [0, 1)")
  target = targets.load(work.inputs["target"]) if config.target else None
  instruction = templates.load("instruction", config.instruction)
  if target:
    instruction = templates.with_notes(instruction, target.profile.notes)
  texts = texts_lib.load(config)
  queries, unread = queries_lib.load(work.inputs["queries"])
  chain = functools.partial(
    example,
    texts=texts,
    demonstrations=templates.demonstrations(config.demonstrations),
    config=config,
    target=target,
  )
  finish = functools.partial(
    _finish, work, queries=queries, unread=unread, instruction=instruction
  )
  return staged.run(work, queries, chain, texts, finish)


def _finish(
  work: stages.Work,
  outcomes: list[records.SftExample | ask_lib.NoAnswer],
  totals: totals_lib.Totals,
  *,
  queries: list[records.Query],
  unread: list[records.SetAside],
  instruction: str,
) -> stages.Counts:
  config, folder = work.config, work.folder
  examples, aside = [], list(unread)
  for query, outcome in zip(queries, outcomes, strict=True):
    if isinstance(outcome, ask_lib.NoAnswer):
      aside.append(records.SetAside(query.id, query.text, str(outcome)))
    else:
      examples.append(outcome)
  records.write(folder / "sft.jsonl", examples)
  records.write(folder / "set_aside.jsonl", aside)
  files.write_text(folder / templates.INSTRUCTION, instruction)
  train, heldout = heldout_lib.split(
    examples, config.heldout, config.seed, lambda row: row.query_id
  )
  for name, rows in (("train", train), ("heldout", heldout)):
    chats = [
      examples_lib.sft_row(templates.fill(instruction, query=row.query), row.prompt)
      for row in rows
    ]
    files.write_json(folder / f"{name}.json", chats)
  counts = {
    "examples": len(examples),
    "refined": sum(row.refined is not None for row in examples),
    "set_aside": len(aside),
    "no_query": len(unread),
    **{kind: sum(card.kind(row) == kind for row in aside) for kind in card.KINDS},
    "train": len(train),
    "heldout": len(heldout),
    **totals.counts(),
  }
  card.write(folder, queries, examples, aside, counts, config.teacher.model)
  return counts


async def example(
  ask: ask_lib.Ask,
  query: records.Query,
  *,
  texts: texts_lib.Texts,
  demonstrations: list[templates.Demonstration],
  config: ml_collections.ConfigDict,
  target: targets.Target | None = None,
) -> records.SftExample:
  """(x, s) with the intermediate texts: generated prompt, critique, refined prompt.

  Args:
    target: the video model that the prompts are for, if there is only one.

  Raises:
    NoAnswer: the teacher gave no usable reply to one of the requests.
  """
  generated = await few_shot.generate(
    ask,
    query.text,
    template=texts.few_shot,
    demonstrations=demonstrations,
    shots=config.shots,
    seed=config.seed,
    notes=target.profile.notes if target else "",
  )
  verdict = await critique.judge(
    ask, query.text, generated, template=texts.critique, target=target
  )
  refined = None
  if not verdict.passed:
    reply = await refine.refine(ask, verdict, template=texts.refine)
    refined = few_shot.paragraph(reply)
    critique.check_refined(query.text, refined, target)
    if config.second_critique:
      await critique.judge_again(ask, query.text, refined, template=texts.critique)
  return records.SftExample(
    query_id=query.id,
    query=query.text,
    category=query.category,
    generated=generated,
    critique=verdict.text,
    refined=refined,
    prompt=generated if refined is None else refined,
  )


def _inputs(config: stages.Config) -> stages.Inputs:
  target = [stages.Input("target", resolve=targets.find)] if config.target else []
  return (stages.Input("queries", "curate/sft.jsonl"), *target)


STAGE = stages.Stage(
  name="build_sft",
  run=run,
  inputs=_inputs,
  execution_keys=queue.EXECUTION_KEYS,
)
