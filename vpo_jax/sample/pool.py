"""A pool of slots with caches of one length, and the queue of prompts for them."""

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

MIN_BUCKET = 32  # shortest length that is compiled
CHUNK_TOKENS = 256  # tokens of a prefill chunk
MIN_TAIL = 8  # tokens that a chunk reserves for each tail
LOOKAHEAD = 64  # units at the head of the queue that a chunk is chosen from


@dataclasses.dataclass(eq=False)
class Job:
  """One candidate that is being sampled.

  Attributes:
    request: the caller's identifier of the request.
    index: of the candidate in the request.
    prompt: its prompt.
    settings: its sampling settings.
    limit: maximum number of tokens to draw.
    key: its random key, uint32 [2].
    tokens: the tokens drawn so far.
    finish_reason: "stop" or "length" when it is finished, else None.
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
  """Tokens that a job drew in a block, and its finish reason if it then finished."""

  job: Job
  tokens: list[int]
  finish_reason: str | None


@dataclasses.dataclass(eq=False)
class Unit:
  """Jobs with the same tokens so far, which are prefilled once for all of them.

  Attributes:
    tail: the tokens after the stem, or all tokens.
    on_stem: whether the tail follows the stem.
    jobs: those that have no slot yet.
    chunk: the chunk that has been prefilled with the tail, or None.
    row: index of the tail in the chunk.
    start: index of the tail's first token in the chunk.
  """

  tail: tuple[int, ...]
  on_stem: bool
  jobs: collections.deque[Job]
  chunk: "Chunk | None" = None
  row: int = 0
  start: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
  """Keys, values and logits of several prefilled units; see `prefill.chunk`."""

  layers: cache.Cache
  logits_UV: jax.Array


class Pool:
  """Slots with caches of one length, and the queue of units for them."""

  def __init__(
    self,
    policy: lm.LanguageModel,
    length: int,
    sizes: tuple[int, ...],
    steps: int,
    eager: bool,
  ):
    """An empty pool.

    Args:
      policy: the model.
      length: positions of a slot's cache.
      sizes: numbers of slots that a block may compute, ascending; the last one is the
        number of slots in the pool.
      steps: steps of a block.
      eager: whether first tokens are reported before the next block runs.
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
    self._cache = cache.empty(slots, length, policy.config, policy.mesh, policy.dtype)
    # A block without a job ends at once. It is compiled here, while the device computes
    # the stem, and not after the first tokens.
    self._block(sizes[0])

  @property
  def waiting(self) -> int:
    """Number of jobs without a slot."""
    return sum(len(unit.jobs) for unit in (*self._ready, *self.queue))

  @property
  def active(self) -> int:
    """Number of jobs in slots."""
    return sum(job is not None for job in self._jobs)

  def cancel(self, request: Any) -> None:
    """Removes the jobs of a request."""
    for units in (self._ready, self.queue):
      for unit in [u for u in units if u.jobs[0].request == request]:
        units.remove(unit)
    for slot, job in enumerate(self._jobs):
      if job is not None and job.request == request:
        self._release(slot)

  def step(self) -> Iterator[tuple[Update, bool]]:
    """Runs one block; yields each job's update, and whether its slot is now full."""
    first = list(self._admit())
    yield from first
    if not self.active or (first and self._eager):
      return
    for slot, row in enumerate(np.asarray(self._block(self._block_size()))):
      job = self._jobs[slot]
      if job is not None:
        yield self._advance(slot, job, row[row != decode.NO_TOKEN].tolist())

  def _block(self, size: int) -> jax.Array:
    """Runs a block for the first slots; returns the tokens that they draw."""
    policy = self._policy
    self._cache, tokens = decode.block(
      policy.params,
      policy.stem,
      self._cache,
      self._state_on_device(size),
      steps=self._steps,
      stop=policy.format.stops,
      config=policy.config,
      mesh=policy.mesh,
      dtype=policy.dtype,
    )
    return tokens

  def _advance(self, slot: int, job: Job, new: list[int]) -> tuple[Update, bool]:
    """Adds new tokens to a job, and frees its slot if it is finished or full."""
    job.tokens += new
    state = self._state
    state.token[slot] = new[-1]
    state.position[slot] += len(new)
    state.drawn[slot] += len(new)
    state.remaining[slot] -= len(new)
    if state.ends_at_stop[slot] and new[-1] in self._policy.format.stops:
      job.finish_reason = "stop"
    elif state.remaining[slot] == 0:
      job.finish_reason = "length"
    full = job.finish_reason is None and bool(state.position[slot] >= self._length)
    if full or job.finish_reason:
      self._release(slot)
    return Update(job, new, job.finish_reason), full

  def _release(self, slot: int) -> None:
    self._jobs[slot] = None
    self._state.remaining[slot] = 0

  def _admit(self) -> Iterator[tuple[Update, bool]]:
    """Assigns waiting jobs to free slots and draws their first tokens."""
    free = [slot for slot, job in enumerate(self._jobs) if job is None]
    while free and (self.queue or self._ready):
      if not self._ready:
        self._prefill()
      chunk = self._ready[0].chunk
      assert chunk is not None
      assigned: list[tuple[int, Unit]] = []
      while free and self._ready and self._ready[0].chunk is chunk:
        unit, slot = self._ready[0], free.pop(0)
        self._assign(slot, unit.jobs.popleft(), unit)
        assigned.append((slot, unit))
        if not unit.jobs:
          self._ready.popleft()
      yield from self._start(chunk, assigned)

  def _prefill(self) -> None:
    """Prefills as many of the longest-waiting units as fit a chunk."""
    taken: list[Unit] = []
    filled = 0
    for unit in list(itertools.islice(self.queue, LOOKAHEAD)):
      tokens = filled + len(unit.tail)
      fits = tokens <= CHUNK_TOKENS and len(taken) < CHUNK_TOKENS // MIN_TAIL
      if not taken or (fits and unit.on_stem == taken[0].on_stem):
        self.queue.remove(unit)
        taken.append(unit)
        unit.start = filled
        filled += len(unit.tail)
    T = bucket(max(filled, MIN_TAIL * len(taken)))
    tokens_T, position_T = np.zeros((2, T), np.int32)
    tail_T = np.full(T, len(taken), np.int32)
    last_U = np.zeros(1 if len(taken) == 1 else T // MIN_TAIL, np.int32)
    for row, unit in enumerate(taken):
      span = slice(unit.start, unit.start + len(unit.tail))
      unit.row, last_U[row] = row, span.stop - 1
      tokens_T[span], tail_T[span] = unit.tail, row
      position_T[span] = np.arange(len(unit.tail))
    p, on_stem = self._policy, np.bool_(taken[0].on_stem)
    inputs = tokens_T, tail_T, position_T, last_U, on_stem
    chunk = Chunk(*prefill.chunk(p.params, p.stem, *inputs, p.config, p.dtype))
    for unit in taken:
      unit.chunk = chunk
    self._ready.extend(taken)

  def _start(
    self, chunk: Chunk, assigned: Sequence[tuple[int, Unit]]
  ) -> Iterator[tuple[Update, bool]]:
    """Copies a chunk's keys and values to slots, and draws the jobs' first tokens."""
    copies = [(unit.start, slot) for slot, unit in assigned]
    copies += [(0, self.slots)] * (self.slots - len(copies))  # dropped
    start_U, slot_U = np.asarray(copies, np.int32).T
    length = bucket(max(len(unit.tail) for _, unit in assigned))
    mesh = self._policy.mesh
    self._cache = cache.write_prefill(
      self._cache, chunk.layers, start_U, slot_U, length=length, mesh=mesh
    )
    size = next(size for size in self._sizes if size >= len(assigned))
    tail_B = np.zeros(size, np.int32)
    tail_B[: len(assigned)] = [unit.row for _, unit in assigned]
    slots = [slot for slot, _ in assigned] + [assigned[0][0]] * (size - len(assigned))
    state = jax.tree.map(lambda x: x[slots], self._state)
    first = np.asarray(decode.first_tokens(chunk.logits_UV, tail_B, state, mesh))
    for (slot, _), token in zip(assigned, first.tolist(), strict=False):
      job = self._jobs[slot]
      assert job is not None
      yield self._advance(slot, job, [token])

  def _assign(self, slot: int, job: Job, unit: Unit) -> None:
    self._jobs[slot] = job
    s, settings = self._state, job.settings
    s.token[slot] = unit.tail[-1]
    s.position[slot] = len(unit.tail) - 1
    s.drawn[slot] = len(job.tokens)
    s.remaining[slot] = job.limit - len(job.tokens)
    s.on_stem[slot] = unit.on_stem
    s.ends_at_stop[slot] = not settings.ignore_eos
    s.key[slot] = job.key
    s.temperature[slot] = settings.temperature
    s.top_p[slot] = settings.top_p
    s.top_k[slot] = settings.top_k

  def _block_size(self) -> int:
    """The smallest of `sizes` that includes all slots in use."""
    last = max(slot for slot, job in enumerate(self._jobs) if job is not None)
    return next(size for size in self._sizes if size > last)

  def _state_on_device(self, size: int) -> decode.Slots:
    batch = NamedSharding(self._policy.mesh, sharding.BATCH)
    return jax.tree.map(lambda x: jax.device_put(x[:size].copy(), batch), self._state)


def bucket(length: int) -> int:
  """The next power of two, so that few lengths are compiled."""
  return max(MIN_BUCKET, 1 << max(length - 1, 0).bit_length())
