"""Stage text_pairs: a critique of every candidate, and D_text (paper, section 3.3).

A candidate that the judge finds flawed is refined with the help of its critique, and
the refined prompt is preferred to it. The paper makes a pair from every flawed
candidate. The release keeps one pair per query, and drops refinements with a newline,
which the paper does not mention; both are config values.
"""

import collections
import dataclasses
import functools

from vpo_jax import errors, records, stages
from vpo_jax.promises import targets
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import critique, few_shot, queue, refine, staged
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib


@dataclasses.dataclass(frozen=True)
class _Item:
  """One candidate with its query."""

  row: records.Candidates
  candidate: records.Candidate

  @property
  def id(self) -> str:
    return records.row_id(self.row.query_id, self.candidate.index)


def run(work: stages.Work) -> stages.Counts | stages.Unfinished:
  """Writes judged.jsonl (every judged candidate), pairs.jsonl and set_aside.jsonl.

  Raises:
    UserError: a template or input is wrong, or the judge cannot be used.
  """
  config, source = work.config, work.inputs["candidates"]
  if config.pairs not in ("one", "all"):
    raise errors.UserError(f"config.pairs={config.pairs!r}: must be 'one' or 'all'")
  texts = texts_lib.load(config)
  rows = records.read(source, records.Candidates)
  items = [_Item(row, candidate) for row in rows for candidate in row.candidates]
  if not items:
    raise errors.UserError(f"{source}: holds no candidates")
  target = targets.load(work.inputs["target"]) if config.target else None
  chain = functools.partial(
    check, texts=texts, second=config.second_critique, target=target
  )
  finish = functools.partial(_finish, work, items)
  return staged.run(work, items, chain, texts, finish)


def _finish(
  work: stages.Work,
  items: list[_Item],
  outcomes: list[records.Judged | ask_lib.NoAnswer],
  totals: totals_lib.Totals,
) -> stages.Counts:
  judged, aside = [], []
  for item, outcome in zip(items, outcomes, strict=True):
    if isinstance(outcome, ask_lib.NoAnswer):
      aside.append(records.SetAside(item.id, item.candidate.prompt, str(outcome)))
    else:
      judged.append(outcome)
  config = work.config
  pairs = select(judged, config.pairs, config.seed, drop_newlines=config.drop_newlines)
  records.write(work.folder / "judged.jsonl", judged)
  records.write(work.folder / "set_aside.jsonl", aside)
  records.write(work.folder / "pairs.jsonl", pairs)
  flawed = [row for row in judged if not row.passed]
  return {
    "candidates": len(items),
    "flawed": len(flawed),
    "refined": sum(row.refined is not None for row in flawed),
    "pairs": len(pairs),
    "set_aside": len(aside),
    **totals.counts(),
  }


async def check(
  ask: ask_lib.Ask,
  item: _Item,
  *,
  texts: texts_lib.Texts,
  second: bool,
  target: targets.Target | None = None,
) -> records.Judged:
  """The text-level check of one candidate.

  If the refinement of a flawed candidate fails, the candidate stays flawed without a
  refinement.

  Args:
    second: whether a refinement must pass a second critique.
    target: the video model that must be able to read the prompts.

  Raises:
    NoAnswer: the judge gave no usable judgement.
  """
  prompt, query = item.candidate.prompt, item.row.query
  verdict = await critique.judge(
    ask, query, prompt, template=texts.critique, target=target
  )
  refined = None
  if not verdict.passed:
    try:
      refined = await refine.refine(ask, verdict, template=texts.refine)
      critique.check_refined(query, few_shot.paragraph(refined), target)
      if second:
        await critique.judge_again(ask, query, refined, template=texts.critique)
    except ask_lib.NoAnswer:
      refined = None
  return records.Judged(
    id=item.id,
    query_id=item.row.query_id,
    query=item.row.query,
    index=item.candidate.index,
    prompt=prompt,
    critique=verdict.text,
    passed=verdict.passed,
    refined=refined,
  )


def select(
  judged: list[records.Judged], mode: str, seed: int, *, drop_newlines: bool = False
) -> list[records.Pair]:
  """D_text: for each flawed candidate, its refinement is preferred to it.

  The lines of a refinement are joined to one paragraph, as in build_sft. A refinement
  that equals the candidate makes no pair.

  Args:
    mode: "one" keeps one pair per query (release), drawn by the seed and the row's id;
      "all" keeps every pair (paper).
    drop_newlines: a refinement with a newline makes no pair (release).
  """
  by_query: dict[str, list[tuple[str, records.Pair]]] = collections.defaultdict(list)
  for row in judged:
    chosen = few_shot.paragraph(row.refined or "")
    dropped = drop_newlines and row.refined and "\n" in row.refined
    if not chosen or chosen == few_shot.paragraph(row.prompt) or dropped:
      continue
    pair = records.Pair(row.query_id, row.query, chosen, row.prompt, source="text")
    by_query[row.query_id].append((records.row_id(seed, row.id), pair))
  if mode == "one":
    return [min(drawn, key=lambda one: one[0])[1] for drawn in by_query.values()]
  return [pair for drawn in by_query.values() for _, pair in drawn]


def _inputs(config: stages.Config) -> stages.Inputs:
  target = [stages.Input("target", resolve=targets.find)] if config.target else []
  return (stages.Input("candidates", "sample/candidates.jsonl"), *target)


STAGE = stages.Stage(
  name="text_pairs",
  run=run,
  inputs=_inputs,
  execution_keys=queue.EXECUTION_KEYS,
)
