"""Samples the candidates of a list of prompts."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from vpo_jax import records
from vpo_jax.runtime import watchdog
from vpo_jax.sample import lm, pool, schedule, settings


def generate(
  policy: lm.LanguageModel,
  prompts: Sequence[lm.Prompt],
  wanted: settings.Settings,
  *,
  slots: int = 32,
) -> list[tuple[records.Candidate, ...]]:
  """The candidates of each prompt, in the prompts' order.

  Args:
    policy: the model.
    prompts: from `policy.prompt(query)` or `policy.chat(messages)`.
    wanted: the sampling settings.
    slots: maximum number of candidates decoded at a time.

  Raises:
    UserError: a prompt fills the model's context.
  """
  done = dict(stream(policy, prompts, wanted, slots=slots))
  return [done[index] for index in range(len(prompts))]


def stream(
  policy: lm.LanguageModel,
  prompts: Sequence[lm.Prompt],
  wanted: settings.Settings,
  *,
  slots: int = 32,
  listen: Callable[[pool.Update], None] | None = None,
  watch: watchdog.Watch | None = None,
) -> Iterator[tuple[int, tuple[records.Candidate, ...]]]:
  """Yields (index of a prompt, its candidates) as prompts are finished.

  Args:
    policy: the model.
    prompts: as in `generate`.
    wanted: the sampling settings.
    slots: maximum number of candidates decoded at a time.
    listen: called with new tokens as they are drawn.
    watch: notified of each block of decode steps. The caller's time between two blocks
      counts towards the earlier one, unless the caller calls `pause`.

  Raises:
    UserError: a prompt fills the model's context.
  """
  shortest = schedule.shortest(policy, prompts, wanted, slots)
  scheduler = schedule.Scheduler(
    policy, slots=slots, shortest=shortest, eager=listen is not None
  )
  jobs = {i: scheduler.add(i, prompt, wanted) for i, prompt in enumerate(prompts)}
  blocks = itertools.count(1)
  while jobs:
    if watch:
      watch.step("block of the sampling", next(blocks))
    updates = scheduler.step()
    if listen:
      for update in updates:
        listen(update)
    ended = {u.job.request for u in updates if u.job.finish_reason}
    for index in sorted(ended):
      if all(job.finish_reason for job in jobs[index]):
        yield index, tuple(candidate(policy, job) for job in jobs.pop(index))


def candidate(policy: lm.LanguageModel, job: pool.Job) -> records.Candidate:
  """The candidate of a finished job."""
  return records.Candidate(
    index=job.index,
    prompt=policy.decode(job.tokens),
    finish_reason="stop" if job.finish_reason == "stop" else "length",
    tokens=len(job.tokens),
  )
