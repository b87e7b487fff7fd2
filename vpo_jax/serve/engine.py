"""Continuous batching for concurrent clients: one thread owns the scheduler."""

import dataclasses
import functools
import math
import queue
import threading
import time
from collections.abc import Callable

from vpo_jax.sample import lm, pool, schedule, settings

STEPS = 4  # decode steps per block: the granularity of streams and admission
_MAX_RETRY_AFTER = 60  # seconds


class QueueFull(Exception):
  """There is no room in the queue; retry after `seconds`."""

  def __init__(self, seconds: int):
    super().__init__(f"the queue is full; try again in {seconds} s")
    self.seconds = seconds


class EngineStopped(Exception):
  """The engine is shutting down, or failed while it worked on a request."""


# Called on the engine's thread with each update of a request; with None if the engine
# failed.
OnUpdate = Callable[[pool.Update | None], None]


@dataclasses.dataclass(eq=False)
class Request:
  """An admitted request.

  Attributes:
    on_update: see `OnUpdate`.
    remaining: candidates that have not ended.
    start: time of admission.
  """

  on_update: OnUpdate
  remaining: int
  start: float


class Engine:
  """Admits requests between blocks of decode steps and reports what they generate.

  A candidate equals what `generate.generate` draws for the same prompt and settings; it
  does not depend on the other requests in the batch.

  Attributes:
    slots: candidates decoded at once.
    active: candidates in a slot.
    waiting: candidates that wait for a slot.
    problem: why the engine failed; None while it works.
  """

  def __init__(
    self, policy: lm.LanguageModel, *, slots: int, queue_size: int, warm: bool = True
  ):
    """Starts the thread.

    Args:
      slots: candidates decoded at once.
      queue_size: candidates that may wait for a slot.
      warm: compile the usual shapes now, so that the first clients do not wait for it.
    """
    self.slots, self.active, self.waiting = slots, 0, 0
    self.problem: str | None = None
    self._scheduler = schedule.Scheduler(
      policy, slots=slots, steps=STEPS, eager=True, shortest=schedule.FIRST_POOL
    )
    self._capacity = slots + queue_size
    self._answer_seconds = 1.0  # running mean
    self._closing = False
    self._lock = threading.Lock()  # guards _requests, _closing and problem
    self._commands: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    self._requests: set[Request] = set()  # admitted and not ended
    if warm:
      _warm_up(policy, self._scheduler)
    self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
    self._thread.start()

  def submit(
    self,
    prompt: lm.Prompt,
    sampling: settings.Settings,
    on_update: OnUpdate,
    *,
    retry: bool = False,
  ) -> Request:
    """Queues a prompt's candidates.

    Args:
      prompt: shorter than the model's context.
      retry: another attempt for an admitted request, which is accepted even if the
        queue is full or the engine is closing.

    Raises:
      QueueFull: too many candidates are waiting.
      EngineStopped: the engine is closed or has failed.
    """
    request = Request(on_update, sampling.num_candidates, time.monotonic())
    with self._lock:
      if self.problem or (self._closing and not retry):
        raise EngineStopped(self.problem or "the server is shutting down")
      candidates = sum(each.remaining for each in (request, *self._requests))
      if candidates > self._capacity and not retry:
        raise QueueFull(min(math.ceil(self._answer_seconds), _MAX_RETRY_AFTER))
      self._requests.add(request)
    self._commands.put(
      functools.partial(self._scheduler.add, request, prompt, sampling)
    )
    return request

  def cancel(self, request: Request) -> None:
    """Frees the slots of a request; does nothing if it has ended."""
    self._commands.put(functools.partial(self._cancel, request))

  def close(self) -> None:
    """Stops admission, finishes admitted requests, and ends the thread."""
    with self._lock:
      self._closing = True
    self._commands.put(lambda: None)
    self._thread.join()

  def _run(self) -> None:
    try:
      while not (self._closing and not self._requests and self._commands.empty()):
        self._iterate()
    except Exception as error:
      with self._lock:
        self.problem = f"the sampler failed: {type(error).__name__}"
      for request in self._requests:  # `problem` stops further admission
        request.on_update(None)
      raise

  def _iterate(self) -> None:
    """Runs the pending commands, then one block of decode steps."""
    if not self._requests:
      self._commands.get()()  # blocks until there is work
    while not self._commands.empty():
      self._commands.get()()
    for update in self._scheduler.step():
      self._report(update)
    self.active, self.waiting = self._scheduler.active, self._scheduler.waiting

  def _cancel(self, request: Request) -> None:
    if request in self._requests:
      self._scheduler.cancel(request)
      self._remove(request)

  def _report(self, update: pool.Update) -> None:
    request: Request = update.job.request
    if update.finish_reason:
      request.remaining -= 1
      seconds = time.monotonic() - request.start
      self._answer_seconds += 0.1 * (seconds - self._answer_seconds)
      if not request.remaining:
        self._remove(request)
    request.on_update(update)

  def _remove(self, request: Request) -> None:
    with self._lock:
      self._requests.remove(request)


def _warm_up(policy: lm.LanguageModel, scheduler: schedule.Scheduler) -> None:
  """Compiles for the two most common prompt lengths and the sizes of `schedule.FEW`."""
  short = settings.Settings(max_new_tokens=2, ignore_eos=True)  # a prefill and a block
  for query in ("a cat", "a cat on a skateboard, " * 5):
    for prompts in (1, 2, schedule.FEW[-1] + 1):
      for number in range(prompts):
        scheduler.add(number, policy.prompt(query), short)
      while scheduler.step():
        pass
