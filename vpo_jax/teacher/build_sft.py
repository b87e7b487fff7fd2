"""Stage build_sft: queries in, SFT examples out (paper, section 3.2).

For each query x: a few-shot prompt p, its critique c, and s = p when the critique found
nothing, the refined prompt otherwise. Rows that the teacher refused, or whose replies
could not be read, are set aside with the reason.
"""

import functools
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors, files, records, templates
from vpo_jax import queries as queries_lib
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import card, critique, few_shot, refine, staged
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib

NAME = "build_sft"


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
  """Writes sft.jsonl, train.json, heldout.json, set_aside.jsonl and the data card.

  sft.jsonl holds the examples (`records.SftExample`) with all that led to them.
  train.json and heldout.json are lists of {"messages": [user, assistant]}, the user's
  turn being the instruction template filled with the query.

  Raises:
    UserError: a template or input is wrong, or the teacher cannot be used.
  """
  if not 0 <= config.heldout < 1:
    raise errors.UserError(f"config.heldout={config.heldout}: must be in [0, 1)")
  source = config.input or epath.Path(workdir) / "curate" / "sft.jsonl"
  instruction = templates.load("instruction", config.instruction)
  texts = texts_lib.load(config)
  demonstrations = templates.demonstrations(config.demonstrations)
  queries, unread = queries_lib.load(source)
  chain = functools.partial(
    example, texts=texts, demonstrations=demonstrations, config=config
  )
  return staged.run(
    NAME,
    config,
    workdir,
    {"queries": source},
    queries,
    chain,
    texts,
    functools.partial(
      _finish, queries=queries, unread=unread, instruction=instruction, config=config
    ),
  )


def _finish(
  folder: epath.Path,
  outcomes: list[records.SftExample | ask_lib.NoAnswer],
  totals: totals_lib.Totals,
  *,
  queries: list[records.Query],
  unread: list[records.SetAside],
  instruction: str,
  config: ml_collections.ConfigDict,
) -> dict[str, Any]:
  examples, aside = [], list(unread)
  for query, outcome in zip(queries, outcomes, strict=True):
    if isinstance(outcome, ask_lib.NoAnswer):
      aside.append(records.SetAside(query.id, query.text, str(outcome)))
    else:
      examples.append(outcome)
  records.write(folder / "sft.jsonl", examples)
  records.write(folder / "set_aside.jsonl", aside)
  train, heldout = split(examples, config.heldout, config.seed)
  for name, rows in (("train", train), ("heldout", heldout)):
    chats = [chat(row.query, row.prompt, instruction) for row in rows]
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
) -> records.SftExample:
  """(x, s) with what led to it: generated, critique, refined.

  Flags that curation moved out of the query are shown to the teacher all the same: the
  critique's rule on flags needs them.

  Raises:
    NoAnswer: the teacher gave no usable reply to one of the questions.
  """
  generated = await few_shot.generate(
    ask,
    query.asked,
    template=texts.few_shot,
    demonstrations=demonstrations,
    shots=config.shots,
    seed=config.seed,
  )
  verdict = await critique.judge(ask, query.asked, generated, template=texts.critique)
  refined = None
  if not verdict.passed:
    reply = await refine.refine(ask, verdict, template=texts.refine)
    refined = few_shot.paragraph(reply)
    if config.second_critique:
      await critique.judge_again(ask, query.asked, refined, template=texts.critique)
  return records.SftExample(
    query_id=query.id,
    query=query.text,
    category=query.category,
    generated=generated,
    critique=verdict.text,
    refined=refined,
    prompt=generated if refined is None else refined,
  )


def split(
  examples: list[records.SftExample], fraction: float, seed: int
) -> tuple[list[records.SftExample], list[records.SftExample]]:
  """Training and held-out rows; a row's side depends on its id and the seed alone.

  Where that leaves no row on the held-out side, the one nearest to it is moved.
  """
  # A word of its own in the hash: curation drew these queries by (seed, id) already.
  ids = [records.row_id("heldout", seed, row.query_id) for row in examples]
  draws = [int(id, 16) / 16**16 for id in ids]
  limit = fraction
  if fraction and len(draws) > 1 and min(draws) >= fraction:
    limit = sorted(draws)[1]
  train = [row for row, draw in zip(examples, draws, strict=True) if draw >= limit]
  heldout = [row for row, draw in zip(examples, draws, strict=True) if draw < limit]
  return train, heldout


def chat(query: str, prompt: str, instruction: str) -> dict[str, list[dict[str, str]]]:
  """One row of the ecosystem's SFT form."""
  user = templates.fill(instruction, query=query)
  return {
    "messages": [
      {"role": "user", "content": user},
      {"role": "assistant", "content": prompt},
    ]
  }
