"""The common part of stages that ask the teacher about each of their rows."""

from collections.abc import Callable, Sequence

from vpo_jax import stages
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import plan, queue
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib

Finish = Callable[
  [list[ask_lib.Outcome | ask_lib.NoAnswer], totals_lib.Totals], stages.Counts
]


def run(
  work: stages.Work,
  items: Sequence[ask_lib.Item],
  chain: ask_lib.Chain[ask_lib.Item, ask_lib.Outcome],
  texts: texts_lib.Texts,
  finish: Finish[ask_lib.Outcome],
) -> stages.Counts | stages.Unfinished:
  """Asks the teacher about every item; see `queue.answer`.

  Args:
    work: its config holds the teacher's as `teacher`.
    chain: asks about one item.
    texts: the templates that the chain fills.
    finish: writes the stage's files from the outcomes, in the order of the items;
      returns the counts.

  Returns: the counts; with `config.teacher.dry_run` an estimate of the cost, without
    sending anything.

  Raises:
    UserError: the teacher cannot be used.
  """
  teacher = work.config.teacher
  if teacher.dry_run:
    return stages.Unfinished(
      plan.plan(work.name, items, chain, config=teacher, folder=work.folder)
    )
  queue.check(teacher)
  outcomes, totals = queue.answer(
    work.name, items, chain, config=teacher, folder=work.folder, texts=texts
  )
  return finish(outcomes, totals)
