"""Continuous batching: assigns jobs to slots between blocks of decode steps."""

import collections
from collections.abc import Sequence
from typing import Any

from vpo_jax import errors
from vpo_jax.decoder import sharding
from vpo_jax.sample import lm, settings
from vpo_jax.sample import pool as pools

FIRST_POOL = 256  # positions of a slot; few of the paper's prompts need more
MIN_ROUNDS = 4  # times that candidates must fill all slots to get a pool of their own
FEW = (1, 4)  # smaller numbers of slots that a block of an eager scheduler may compute


class Scheduler:
  """Runs jobs in pools of slots; each call of `step` runs a block of decode steps."""

  def __init__(
    self,
    policy: lm.LanguageModel,
    *,
    slots: int,
    steps: int = 8,
    eager: bool = False,
    shortest: int = pools.MIN_BUCKET,
  ):
    """An idle scheduler. Caches are allocated when they are first needed.

    Args:
      policy: the model.
      slots: maximum number of candidates decoded at a time; a multiple of the mesh's
        groups.
      steps: decode steps of a block. Jobs are admitted between blocks.
      eager: for interactive requests. Every pool runs at each step, rather than waiting
        until its slots are full; a block computes few slots if few are in use; and
        first tokens are reported as soon as they are drawn.
      shortest: positions of the shortest slots. With `FIRST_POOL`, all candidates share
        one pool, except those of long prompts or with long answers.

    Raises:
      UserError: `slots` is not a multiple of the mesh's groups.
    """
    groups = sharding.groups(policy.mesh)
    if slots < 1 or slots % groups:
      raise errors.UserError(
        f"slots={slots}: must be a multiple of {groups} (the mesh's data * fsdp)"
      )
    self._policy = policy
    self._slots = slots
    self._steps = steps
    self._eager = eager
    self._shortest = shortest
    self._pools: dict[int, pools.Pool] = {}

  def add(
    self, request: Any, prompt: lm.Prompt, wanted: settings.Settings
  ) -> list[pools.Job]:
    """Queues the candidates of a prompt and returns their jobs.

    Args:
      request: an identifier for `cancel`.
      prompt: the model's input.
      wanted: the sampling settings.

    Raises:
      UserError: the prompt fills the model's context.
    """
    room = self._policy.config.context - len(prompt.tokens)
    if room < 1:
      raise errors.UserError(
        f"the prompt has {len(prompt.tokens)} tokens and leaves no room for an answer"
        f" in the model's context of {self._policy.config.context}"
      )
    jobs = [
      pools.Job(
        request=request,
        index=index,
        prompt=prompt,
        settings=wanted,
        limit=min(wanted.max_new_tokens, room),
        key=settings.noise_key(wanted.seed, prompt.rendered, index),
      )
      for index in range(wanted.num_candidates)
    ]
    self._enqueue(jobs, ())
    return jobs

  def cancel(self, request: Any) -> None:
    """Removes a request; its slots are free from the next block on."""
    for pool in self._pools.values():
      pool.cancel(request)

  @property
  def waiting(self) -> int:
    """Number of jobs that have no slot yet."""
    return sum(pool.waiting for pool in self._pools.values())

  @property
  def active(self) -> int:
    """Number of jobs in slots."""
    return sum(pool.active for pool in self._pools.values())

  def step(self) -> list[pools.Update]:
    """Runs a block; returns the tokens drawn, or an empty list if there are no jobs."""
    updates = []
    for pool in self._next_pools():
      for update, full in pool.step():
        updates.append(update)
        if full:  # continue in a pool with longer slots
          self._enqueue([update.job], tuple(update.job.tokens))
    return updates

  def _next_pools(self) -> list[pools.Pool]:
    """Pools to run now: if not eager, the longest one that is full, or the shortest."""
    busy = [p for _, p in sorted(self._pools.items()) if p.active or p.waiting]
    if self._eager or not busy:
      return busy
    full = [p for p in busy if p.active + p.waiting >= p.slots]
    return [full[-1] if full else busy[0]]

  def _enqueue(self, jobs: list[pools.Job], drawn: tuple[int, ...]) -> None:
    tail, on_stem = _tail(self._policy, jobs[0].prompt.tokens + drawn)
    positions = _positions(tail, jobs[0].limit - len(drawn))
    short = positions <= self._shortest
    length = self._shortest if short else pools.bucket(positions)
    if length not in self._pools:
      self._pools[length] = self._new_pool(length)
    self._pools[length].queue.append(pools.Unit(tail, on_stem, collections.deque(jobs)))

  def _new_pool(self, length: int) -> pools.Pool:
    groups = sharding.groups(self._policy.mesh)
    # As many positions in all as `slots` slots of FIRST_POOL, but at least 8 slots.
    slots = min(self._slots, max(self._slots * FIRST_POOL // length, 8))
    slots = -(-slots // groups) * groups
    few = [n for n in FEW if n < slots and n % groups == 0 and self._eager]
    return pools.Pool(self._policy, length, (*few, slots), self._steps, self._eager)


def shortest(
  policy: lm.LanguageModel,
  prompts: Sequence[lm.Prompt],
  wanted: settings.Settings,
  slots: int,
) -> int:
  """Positions that the shortest slots should have for these prompts.

  Short slots are cheaper, but a block costs nearly the same for one candidate as for
  all slots. Candidates that would not fill short slots for several rounds share longer
  ones with the others.
  """
  lengths = [
    _positions(_tail(policy, prompt.tokens)[0], wanted.max_new_tokens)
    for prompt in prompts
  ]
  # Not longer than the longest candidate: attention reads all positions of a slot.
  most = min(max(lengths, default=1), FIRST_POOL)
  most = -(-most // pools.MIN_BUCKET) * pools.MIN_BUCKET
  length = pools.MIN_BUCKET
  while length < most:
    filled = wanted.num_candidates * sum(each <= length for each in lengths)
    if filled >= MIN_ROUNDS * slots:
      break
    length *= 2
  return min(length, most)


def _tail(
  policy: lm.LanguageModel, tokens: tuple[int, ...]
) -> tuple[tuple[int, ...], bool]:
  """The tokens after the stem, or all of them, and whether they follow the stem."""
  stem = policy.stem_tokens
  on_stem = tokens[: len(stem)] == stem and len(tokens) > len(stem)
  return (tokens[len(stem) :] if on_stem else tokens), on_stem


def _positions(tail: tuple[int, ...], remaining: int) -> int:
  """Positions of a slot for a tail and the tokens that remain to be drawn."""
  return min(len(tail) + remaining, max(FIRST_POOL, 2 * len(tail)))
