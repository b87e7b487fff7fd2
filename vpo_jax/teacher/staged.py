"""A stage whose rows go through the teacher."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import stages
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import plan, queue
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher import totals as totals_lib

Finish = Callable[
  [
    epath.Path,
    list[ask_lib.Outcome | ask_lib.NoAnswer],
    totals_lib.Totals,
  ],
  dict[str, Any],
]


def run(
  name: str,
  config: ml_collections.ConfigDict,
  workdir: epath.PathLike,
  inputs: Mapping[str, epath.PathLike],
  items: Sequence[ask_lib.Item],
  chain: ask_lib.Chain[ask_lib.Item, ask_lib.Outcome],
  texts: texts_lib.Texts,
  finish: Finish[ask_lib.Outcome],
) -> dict[str, Any]:
  """Asks about every item, once what is needed was looked at; see `queue.answer`.

  Args:
    config: the stage's, with the teacher's as `teacher`.
    inputs: as `stages.begin` takes them.
    finish: writes the stage's files to its folder, from the outcomes in the order of
      the items; returns the counts for the manifest.

  Returns: the counts; with `dry_run` what it would cost, and nothing is sent or begun.

  Raises:
    UserError: the teacher cannot be used, or the folder holds another's work.
  """
  folder = epath.Path(workdir) / name
  if config.teacher.dry_run:
    return plan.plan(name, items, chain, config=config.teacher, folder=folder)
  queue.check(config.teacher, folder)
  work = stages.begin(name, queue.lasting(config), workdir, inputs)
  if work.counts is not None:
    return work.counts
  outcomes, totals = queue.answer(
    name, items, chain, config=config.teacher, folder=work.folder, texts=texts
  )
  return work.finish(finish(work.folder, outcomes, totals))
