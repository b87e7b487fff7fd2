"""Continuous batching: who is in which slot, decided between blocks of steps."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from vpo_jax import errors
from vpo_jax.llama import sharding
from vpo_jax.sample import cache, decode, prefill, settings
from vpo_jax.sample import policy as policies

FIRST_POOL = 256  # positions of a slot; few of the paper's prompts are longer
SMALLEST = 32  # the shortest tail that is compiled for
CHUNK = 256  # tokens of a prefill
ROUNDS = 4  # how often candidates should fill all slots of a length of their own
FEW = (1, 4)  # slots of a block, with `eager`, where no more are in use


@dataclasses.dataclass(eq=False)
class Job:
  """One candidate in the making.

  Attributes:
    request: whatever the caller tells it by.
    prompt: all tokens of the prompt.
    tokens: what it has drawn so far.
    finish_reason: "stop" or "length" when it is done, else None.
  """

  request: Any
  index: int
  prompt: policies.Prompt
  settings: settings.Settings
  limit: int
  key: np.ndarray
  tokens: list[int] = dataclasses.field(default_factory=list)
  finish_reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Update:
  """Tokens that a job drew in a block, and its finish reason after them, if any."""

  job: Job
  tokens: list[int]
  finish_reason: str | None


@dataclasses.dataclass(eq=False)
class _Unit:
  """Jobs that begin with the same tokens, prefilled once for all of them."""

  tail: tuple[int, ...]
  on_stem: bool
  jobs: collections.deque[Job]
  made: cache.Cache | None = None  # the chunk that holds its keys and values
  row: int = 0


class Scheduler:
  """Runs jobs in slots; one block of steps a call of `step`."""

  def __init__(
    self,
    policy: policies.Policy,
    *,
    slots: int,
    steps: int = 8,
    eager: bool = False,
    shortest: int = SMALLEST,
  ):
    """Makes an idle scheduler; caches are made when first needed.

    Args:
      slots: candidates decoded side by side; a multiple of the mesh's groups.
      steps: of a block; what is new is let in between blocks.
      eager: for requests that people wait for: every pool runs at each turn, where
        otherwise the long ones wait until they fill their pool; and few slots are
        computed where few are in use.
      shortest: positions of the shortest slots, a power of two: `FIRST_POOL` has all
        but long prompts and answers share one pool.
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
    self._pools: dict[int, _Pool] = {}

  def add(
    self, request: Any, prompt: policies.Prompt, wanted: settings.Settings
  ) -> list[Job]:
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
      Job(
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

  def step(self) -> list[Update]:
    """Runs one block; returns what it drew. Empty when there is nothing to do."""
    updates = []
    for pool in self._turn():
      for update, full in pool.step():
        updates.append(update)
        if full:  # goes on in a pool with longer slots
          self._enqueue([update.job], tuple(update.job.tokens))
    return updates

  def _turn(self) -> list["_Pool"]:
    pools = [p for _, p in sorted(self._pools.items()) if p.active or p.waiting]
    if self._eager or not pools:
      return pools
    full = [p for p in pools if p.active + p.waiting >= p.slots]
    return [full[-1] if full else pools[0]]

  def _enqueue(self, jobs: list[Job], drawn: tuple[int, ...]) -> None:
    tail, on_stem = _tail(self._policy, jobs[0].prompt.tokens + drawn)
    length = max(_length(tail, jobs[0].limit - len(drawn)), self._shortest)
    if length not in self._pools:
      self._pools[length] = self._new_pool(length)
    self._pools[length].queue.append(_Unit(tail, on_stem, collections.deque(jobs)))

  def _new_pool(self, length: int) -> "_Pool":
    groups = sharding.groups(self._policy.mesh)
    few = self._slots * FIRST_POOL // length
    slots = min(self._slots, max(few, 8))
    slots = -(-slots // groups) * groups
    few = [few for few in FEW if few < slots and few % groups == 0 and self._eager]
    return _Pool(self._policy, length, (*few, slots), self._steps)


class _Pool:
  """Slots of one length, and the units that wait for them."""

  def __init__(
    self, policy: policies.Policy, length: int, sizes: tuple[int, ...], steps: int
  ):
    """Makes an empty pool.

    Args:
      sizes: how many slots a block may compute, ascending; the last is all.
    """
    slots = sizes[-1]
    self.slots = slots
    self._sizes = sizes
    self.queue: collections.deque[_Unit] = collections.deque()
    self._ready: collections.deque[_Unit] = collections.deque()
    self._policy = policy
    self._length = length
    self._steps = steps
    self._jobs: list[Job | None] = [None] * slots
    self._state = _at_rest(slots)
    self._own = cache.make(slots, length, policy.config, policy.mesh, policy.precision)

  @property
  def waiting(self) -> int:
    return sum(len(unit.jobs) for unit in (*self._ready, *self.queue))

  @property
  def active(self) -> int:
    return sum(job is not None for job in self._jobs)

  def cancel(self, request: Any) -> None:
    for units in (self._ready, self.queue):
      for unit in [u for u in units if u.jobs[0].request == request]:
        units.remove(unit)
    for slot, job in enumerate(self._jobs):
      if job is not None and job.request == request:
        self._release(slot)

  def step(self) -> Iterator[tuple[Update, bool]]:
    """One block; yields each job's update, and whether its slot is full."""
    self._admit()
    if not self.active:
      return
    policy = self._policy
    self._own, tokens = decode.block(
      policy.params,
      policy.stem,
      self._own,
      self._on_device(self._size()),
      steps=self._steps,
      stop=policy.stop,
      config=policy.config,
      mesh=policy.mesh,
      dtype=policy.precision,
    )
    for slot, row in enumerate(np.asarray(tokens)):
      job = self._jobs[slot]
      if job is not None:
        yield self._advance(slot, job, row[row != decode.NO_TOKEN].tolist())

  def _advance(self, slot: int, job: Job, new: list[int]) -> tuple[Update, bool]:
    job.tokens += new
    state = self._state
    state.token[slot] = new[-1]
    state.place[slot] += len(new)
    state.drawn[slot] += len(new)
    state.left[slot] -= len(new)
    if state.stops[slot] and new[-1] in self._policy.stop:
      job.finish_reason = "stop"
    elif state.left[slot] == 0:
      job.finish_reason = "length"
    full = job.finish_reason is None and bool(state.place[slot] >= self._length)
    if full or job.finish_reason:
      self._release(slot)
    return Update(job, new, job.finish_reason), full

  def _release(self, slot: int) -> None:
    self._jobs[slot] = None
    self._state.left[slot] = 0

  def _admit(self) -> None:
    """Puts waiting jobs into free slots, a prefilled chunk of units after another."""
    free = [slot for slot, job in enumerate(self._jobs) if job is None]
    while free and (self.queue or self._ready):
      if not self._ready:
        self._prefill()
      made, moves = self._ready[0].made, []
      while free and self._ready and self._ready[0].made is made:
        unit, slot = self._ready[0], free.pop(0)
        self._occupy(slot, unit.jobs.popleft(), unit)
        moves.append((unit.row, slot))
        if not unit.jobs:
          self._ready.popleft()
      if made is not None:
        self._place(made, moves)

  def _prefill(self) -> None:
    """Computes the next units that are of one length, as many as fit a chunk."""
    lengths = [_bucket(len(unit.tail) - 1) for unit in self.queue]
    Q = lengths[0]
    most = max(1, CHUNK // Q)
    taken = [u for u, length in zip(self.queue, lengths, strict=True) if length == Q]
    taken = taken[:most]
    G = 1 if len(taken) == 1 else most
    tokens_GQ, on_stem_G = np.zeros((G, Q), np.int32), np.zeros(G, bool)
    for row, unit in enumerate(taken):
      self.queue.remove(unit)
      # The last token is left to the first decode step, which draws from it.
      tokens_GQ[row, : len(unit.tail) - 1] = unit.tail[:-1]
      on_stem_G[row] = unit.on_stem
    p = self._policy
    made = prefill.tails(
      p.params, p.stem, tokens_GQ, on_stem_G, p.config, p.mesh, p.precision
    )
    for row, unit in enumerate(taken):
      unit.made, unit.row = made, row
    self._ready.extend(taken)

  def _place(self, made: cache.Cache, moves: Sequence[tuple[int, int]]) -> None:
    nowhere = [(0, self.slots)] * (self.slots - len(moves))
    source_N, slot_N = np.asarray([*moves, *nowhere], np.int32).T
    self._own = cache.place(self._own, made, source_N, slot_N, mesh=self._policy.mesh)

  def _occupy(self, slot: int, job: Job, unit: _Unit) -> None:
    self._jobs[slot] = job
    s, wanted = self._state, job.settings
    s.token[slot] = unit.tail[-1]
    s.place[slot] = len(unit.tail) - 1
    s.drawn[slot] = len(job.tokens)
    s.left[slot] = job.limit - len(job.tokens)
    s.on_stem[slot] = unit.on_stem
    s.stops[slot] = not wanted.ignore_eos
    s.key[slot] = job.key
    s.temperature[slot] = wanted.temperature
    s.top_p[slot] = wanted.top_p
    s.top_k[slot] = wanted.top_k

  def _size(self) -> int:
    """How many slots this block computes: those in use, which are the first ones."""
    last = max(slot for slot, job in enumerate(self._jobs) if job is not None)
    return next(size for size in self._sizes if size > last)

  def _on_device(self, size: int) -> decode.Slots:
    where = NamedSharding(self._policy.mesh, sharding.BATCH)
    return jax.tree.map(lambda x: jax.device_put(x[:size].copy(), where), self._state)


def _at_rest(slots: int) -> decode.Slots:
  """The host's copy of the slots' state, changed in place between blocks."""

  def zeros(dtype: Any = np.int32, shape: tuple[int, ...] = ()) -> np.ndarray:
    return np.zeros((slots, *shape), dtype)

  return decode.Slots(
    token=zeros(),
    place=zeros(),
    drawn=zeros(),
    left=zeros(),
    on_stem=zeros(bool),
    stops=zeros(bool),
    key=zeros(np.uint32, (2,)),
    temperature=zeros(np.float32),
    top_p=np.ones(slots, np.float32),
    top_k=zeros(),
  )


def shortest(
  policy: policies.Policy,
  prompts: Sequence[policies.Prompt],
  wanted: settings.Settings,
  slots: int,
) -> int:
  """What the shortest slots should hold, given all the prompts there are.

  Short slots are cheap, but candidates that do not fill them for long had better share
  longer ones: a block costs nearly the same for one candidate as for all slots.
  """
  lengths = [
    _length(_tail(policy, prompt.tokens)[0], wanted.max_new_tokens)
    for prompt in prompts
  ]
  length, most = SMALLEST, min(max(lengths, default=SMALLEST), FIRST_POOL)
  while length < most:
    filled = wanted.num_candidates * sum(each <= length for each in lengths)
    if filled >= ROUNDS * slots:
      break
    length *= 2
  return length


def _tail(
  policy: policies.Policy, tokens: tuple[int, ...]
) -> tuple[tuple[int, ...], bool]:
  """What follows the stem, or all tokens, and whether they follow it."""
  stem = policy.stem_tokens
  on_stem = tokens[: len(stem)] == stem and len(tokens) > len(stem)
  return (tokens[len(stem) :] if on_stem else tokens), on_stem


def _length(tail: tuple[int, ...], left: int) -> int:
  """Positions of the slot that a tail and what is left to draw begin in."""
  return _bucket(min(len(tail) + left, max(FIRST_POOL, 2 * len(tail))))


def _bucket(length: int) -> int:
  """The next power of two: few shapes, few compilations."""
  return max(SMALLEST, 1 << max(length - 1, 0).bit_length())
