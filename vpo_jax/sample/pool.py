"""Slots of one length: who is in which, and the prompts that wait for one."""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from vpo_jax.decoder import sharding
from vpo_jax.sample import cache, decode, lm, prefill, settings

SMALLEST = 32  # the shortest tail that is compiled for
CHUNK = 256  # tokens of a prefill
SHORT = 8  # tokens of a tail at which a chunk holds the most tails
NEAR = 64  # units that wait longest, of which a chunk is made


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
  prompt: lm.Prompt
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
class Unit:
  """Jobs that begin with the same tokens, prefilled once for all of them."""

  tail: tuple[int, ...]
  on_stem: bool
  jobs: collections.deque[Job]
  chunk: "Chunk | None" = None  # that it was prefilled in
  row: int = 0  # which of the chunk's tails it is
  start: int = 0  # where in the chunk it begins


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
  """What `prefill.chunk` gave for several units."""

  made: cache.Cache
  logits_UV: jax.Array


class Pool:
  """Slots of one length, and the units that wait for them."""

  def __init__(
    self,
    policy: lm.LanguageModel,
    length: int,
    sizes: tuple[int, ...],
    steps: int,
    eager: bool,
  ):
    """Makes an empty pool.

    Args:
      sizes: how many slots a block may compute, ascending; the last is all.
      steps: of a block.
      eager: first tokens are told before the block that follows them.
    """
    slots = sizes[-1]
    self.slots = slots
    self._sizes = sizes
    self.queue: collections.deque[Unit] = collections.deque()
    self._ready: collections.deque[Unit] = collections.deque()
    self._policy = policy
    self._length = length
    self._steps = steps
    self._eager = eager
    self._jobs: list[Job | None] = [None] * slots
    self._state = decode.idle(slots)
    self._own = cache.empty(slots, length, policy.config, policy.mesh, policy.dtype)

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
    first = list(self._admit())
    yield from first
    if not self.active or (first and self._eager):
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
      dtype=policy.dtype,
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

  def _admit(self) -> Iterator[tuple[Update, bool]]:
    """Puts waiting jobs into free slots, and draws their first tokens."""
    free = [slot for slot, job in enumerate(self._jobs) if job is None]
    while free and (self.queue or self._ready):
      if not self._ready:
        self._prefill()
      chunk = self._ready[0].chunk
      assert chunk is not None
      moves: list[tuple[int, Unit]] = []
      while free and self._ready and self._ready[0].chunk is chunk:
        unit, slot = self._ready[0], free.pop(0)
        self._occupy(slot, unit.jobs.popleft(), unit)
        moves.append((slot, unit))
        if not unit.jobs:
          self._ready.popleft()
      yield from self._begin(chunk, moves)

  def _prefill(self) -> None:
    """Computes the units that wait longest, as many as fit a chunk."""
    taken: list[Unit] = []
    filled = 0
    for unit in list(itertools.islice(self.queue, NEAR)):
      room = filled + len(unit.tail) <= CHUNK and len(taken) < CHUNK // SHORT
      if not taken or (room and unit.on_stem == taken[0].on_stem):
        self.queue.remove(unit)
        taken.append(unit)
        unit.start = filled
        filled += len(unit.tail)
    T = bucket(max(filled, SHORT * len(taken)))
    tokens_T, place_T = np.zeros((2, T), np.int32)
    tail_T = np.full(T, len(taken), np.int32)
    last_U = np.zeros(1 if len(taken) == 1 else T // SHORT, np.int32)
    for row, unit in enumerate(taken):
      mine = slice(unit.start, unit.start + len(unit.tail))
      unit.row, last_U[row] = row, mine.stop - 1
      tokens_T[mine], tail_T[mine] = unit.tail, row
      place_T[mine] = np.arange(len(unit.tail))
    p, on_stem = self._policy, np.bool_(taken[0].on_stem)
    inputs = tokens_T, tail_T, place_T, last_U, on_stem
    made = prefill.chunk(p.params, p.stem, *inputs, p.config, p.mesh, p.dtype)
    chunk = Chunk(*made)
    for unit in taken:
      unit.chunk = chunk
    self._ready.extend(taken)

  def _begin(
    self, chunk: Chunk, moves: Sequence[tuple[int, Unit]]
  ) -> Iterator[tuple[Update, bool]]:
    """Fills slots from a chunk; a job's first token is drawn from its logits."""
    nowhere = [(0, self.slots)] * (self.slots - len(moves))
    placed = [(unit.start, slot) for slot, unit in moves]
    start_N, slot_N = np.asarray([*placed, *nowhere], np.int32).T
    length = bucket(max(len(unit.tail) for _, unit in moves))
    mesh = self._policy.mesh
    self._own = cache.write_prefill(
      self._own, chunk.made, start_N, slot_N, length=length, mesh=mesh
    )
    size = next(size for size in self._sizes if size >= len(moves))
    source_B = np.zeros(size, np.int32)
    source_B[: len(moves)] = [unit.row for _, unit in moves]
    slots = [slot for slot, _ in moves] + [moves[0][0]] * (size - len(moves))
    state = jax.tree.map(lambda x: x[slots], self._state)
    first = np.asarray(decode.begin(chunk.logits_UV, source_B, state))
    for (slot, _), token in zip(moves, first.tolist(), strict=False):
      job = self._jobs[slot]
      assert job is not None
      yield self._advance(slot, job, [token])

  def _occupy(self, slot: int, job: Job, unit: Unit) -> None:
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


def bucket(length: int) -> int:
  """The next power of two: few shapes, few compilations."""
  return max(SMALLEST, 1 << max(length - 1, 0).bit_length())
