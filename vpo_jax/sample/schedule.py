"""Continuous batching: who is in which slot, decided between blocks of steps."""

import collections
from collections.abc import Sequence
from typing import Any

from vpo_jax import errors
from vpo_jax.decoder import sharding
from vpo_jax.sample import lm, settings
from vpo_jax.sample import pool as pools

FIRST_POOL = 256  # positions of a slot; few of the paper's prompts are longer
ROUNDS = 4  # how often candidates should fill all slots of a length of their own
FEW = (1, 4)  # slots of a block, with `eager`, where no more are in use


class Scheduler:
  """Runs jobs in slots; one block of steps a call of `step`."""

  def __init__(
    self,
    policy: lm.LanguageModel,
    *,
    slots: int,
    steps: int = 8,
    eager: bool = False,
    shortest: int = pools.SMALLEST,
  ):
    """Makes an idle scheduler; caches are made when first needed.

    Args:
      slots: candidates decoded side by side; a multiple of the mesh's groups.
      steps: of a block; what is new is let in between blocks.
      eager: for requests that people wait for: every pool runs at each turn, where
        otherwise the long ones wait until they fill their pool; few slots are computed
        where few are in use; and a first token is told as soon as it is drawn.
      shortest: positions of the shortest slots: `FIRST_POOL` has all but long prompts
        and answers share one pool.
    """
    groups = sharding.groups(policy.mesh)
    if slots < 1 or slots % groups:
      raise errors.UserError(
        f"slots={slots}: wants a multiple of {groups}, the mesh's data and fsdp axes"
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
    """Queues the candidates of a prompt.

    Raises:
      UserError: the prompt leaves no room for an answer in the model's context.
    """
    room = self._policy.config.context - len(prompt.tokens)
    if room < 1:
      raise errors.UserError(
        f"the prompt has {len(prompt.tokens)} tokens; the model's context is"
        f" {self._policy.config.context}"
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
    """Forgets a request; its slots are free at the next block."""
    for pool in self._pools.values():
      pool.cancel(request)

  @property
  def waiting(self) -> int:
    """Jobs that are in no slot yet."""
    return sum(pool.waiting for pool in self._pools.values())

  @property
  def active(self) -> int:
    return sum(pool.active for pool in self._pools.values())

  def step(self) -> list[pools.Update]:
    """Runs one block; returns what it drew. Empty when there is nothing to do."""
    updates = []
    for pool in self._turn():
      for update, full in pool.step():
        updates.append(update)
        if full:  # goes on in a pool with longer slots
          self._enqueue([update.job], tuple(update.job.tokens))
    return updates

  def _turn(self) -> list[pools.Pool]:
    busy = [p for _, p in sorted(self._pools.items()) if p.active or p.waiting]
    if self._eager or not busy:
      return busy
    full = [p for p in busy if p.active + p.waiting >= p.slots]
    return [full[-1] if full else busy[0]]

  def _enqueue(self, jobs: list[pools.Job], drawn: tuple[int, ...]) -> None:
    tail, on_stem = _tail(self._policy, jobs[0].prompt.tokens + drawn)
    wanted = _positions(tail, jobs[0].limit - len(drawn))
    length = self._shortest if wanted <= self._shortest else pools.bucket(wanted)
    if length not in self._pools:
      self._pools[length] = self._new_pool(length)
    self._pools[length].queue.append(pools.Unit(tail, on_stem, collections.deque(jobs)))

  def _new_pool(self, length: int) -> pools.Pool:
    groups = sharding.groups(self._policy.mesh)
    few = self._slots * FIRST_POOL // length
    slots = min(self._slots, max(few, 8))
    slots = -(-slots // groups) * groups
    few = [few for few in FEW if few < slots and few % groups == 0 and self._eager]
    return pools.Pool(self._policy, length, (*few, slots), self._steps, self._eager)


def shortest(
  policy: lm.LanguageModel,
  prompts: Sequence[lm.Prompt],
  wanted: settings.Settings,
  slots: int,
) -> int:
  """What the shortest slots should hold, given all the prompts there are.

  Short slots are cheap, but candidates that do not fill them for long had better share
  longer ones: a block costs nearly the same for one candidate as for all slots.
  """
  lengths = [
    _positions(_tail(policy, prompt.tokens)[0], wanted.max_new_tokens)
    for prompt in prompts
  ]
  # No longer than the longest wants: attention reads a slot's every position.
  most = min(max(lengths, default=1), FIRST_POOL)
  most = -(-most // pools.SMALLEST) * pools.SMALLEST
  length = pools.SMALLEST
  while length < most:
    filled = wanted.num_candidates * sum(each <= length for each in lengths)
    if filled >= ROUNDS * slots:
      break
    length *= 2
  return min(length, most)


def _tail(
  policy: lm.LanguageModel, tokens: tuple[int, ...]
) -> tuple[tuple[int, ...], bool]:
  """What follows the stem, or all tokens, and whether they follow it."""
  stem = policy.stem_tokens
  on_stem = tokens[: len(stem)] == stem and len(tokens) > len(stem)
  return (tokens[len(stem) :] if on_stem else tokens), on_stem


def _positions(tail: tuple[int, ...], left: int) -> int:
  """Positions that a slot should have, for a tail and what is left to draw."""
  return min(len(tail) + left, max(FIRST_POOL, 2 * len(tail)))
