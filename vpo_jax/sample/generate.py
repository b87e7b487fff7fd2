"""Prompts in, candidates out: what other parts of the project call."""

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
    prompts: from `policy.prompt(query)` or `policy.chat(messages)`.
    slots: the most candidates decoded side by side.

  Raises:
    UserError: a prompt leaves no room in the model's context.
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
  """Yields (a prompt's place, its candidates) as prompts are finished.

  Args:
    listen: is told of all tokens as they are drawn.
    watch: is told of each block of steps; what the caller does between two of them
      counts as the former's, unless it says `pause`.
  """
  shortest = schedule.shortest(policy, prompts, wanted, slots)
  scheduler = schedule.Scheduler(
    policy, slots=slots, shortest=shortest, eager=listen is not None
  )
  jobs = {i: scheduler.add(i, prompt, wanted) for i, prompt in enumerate(prompts)}
  blocks = itertools.count(1)
  while jobs:
    if watch:
      watch.step(f"block {next(blocks)} of the sampling")
    updates = scheduler.step()
    if listen:
      for update in updates:
        listen(update)
    ended = {u.job.request for u in updates if u.job.finish_reason}
    for index in sorted(ended):
      if all(job.finish_reason for job in jobs[index]):
        yield index, tuple(candidate(policy, job) for job in jobs.pop(index))


def candidate(policy: lm.LanguageModel, job: pool.Job) -> records.Candidate:
  """A finished job's row."""
  return records.Candidate(
    index=job.index,
    prompt=policy.decode(job.tokens),
    finish_reason="stop" if job.finish_reason == "stop" else "length",
    tokens=len(job.tokens),
  )
