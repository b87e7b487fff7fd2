"""The teacher's few-shot prompt (paper, figure 7), neither judged nor refined."""

import functools

import ml_collections
from etils import epath

from vpo_jax import queries as queries_lib
from vpo_jax import records, stages, templates
from vpo_jax.evaluate.systems import made, row
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import few_shot, queue, staged
from vpo_jax.teacher import texts as texts_lib


def write(
  system: row.System,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  place: epath.Path,
  root: epath.PathLike,
) -> None:
  """Lets the teacher of `config.build_sft` write the prompts."""
  del system
  stages.run(_STAGE, made.named(config.build_sft, queries=queries), place, root)


def _run(work: stages.Work) -> stages.Counts | stages.Unfinished:
  config = work.config
  template = templates.load("few_shot", config.few_shot)
  rows, _ = queries_lib.load(work.inputs["queries"])
  demonstrations = templates.demonstrations(config.demonstrations)

  async def chain(ask: ask_lib.Ask, query: records.Query) -> made.Answer:
    prompt = await few_shot.generate(
      ask,
      query.text,
      template=template,
      demonstrations=demonstrations,
      shots=config.shots,
      seed=config.seed,
    )
    return made.Answer(prompt)

  texts = texts_lib.Texts(few_shot=template)
  finish = functools.partial(made.finish, work, rows, source=row.TEACHER)
  return staged.run(work, rows, chain, texts, finish)


_STAGE = stages.Stage(
  name=made.STAGE,
  run=_run,
  inputs=(stages.Input("queries"),),
  execution_keys=queue.EXECUTION_KEYS,
)
