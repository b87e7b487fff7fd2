"""One continuous batch for all who ask: a thread that owns the sampler."""

import dataclasses
import functools
import math
import queue
import threading
import time
from collections.abc import Callable

from vpo_jax.sample import lm, pool, schedule, settings

STEPS = 4  # of a block: what a stream waits for, and a newcomer for a slot
_LONGEST_WAIT = 60  # seconds that `Full` asks for at the most


class Full(Exception):
  """No room in the queue; `seconds` is when to try again."""

  def __init__(self, seconds: int):
    super().__init__(f"the queue is full; try again in {seconds} s")
    self.seconds = seconds


class Stopped(Exception):
  """The engine takes nothing any more, or broke while it worked on a request."""


# Is told of a request's news, on the engine's thread; of None when the engine broke.
Listener = Callable[[pool.Update | None], None]


@dataclasses.dataclass(eq=False)
class Ticket:
  """A request that was let in.

  Attributes:
    left: candidates that have not ended.
  """

  listen: Listener
  left: int
  began: float


class Engine:
  """Lets requests into the batch between blocks of steps, and tells what they drew.

  A candidate is what `generate.generate` makes of the same prompt and settings: who
  else is in the batch changes nothing.
  """

  def __init__(
    self, policy: lm.LanguageModel, *, slots: int, queue_size: int, warm: bool = True
  ):
    """Starts the thread.

    Args:
      slots: candidates decoded side by side.
      queue_size: candidates that may wait beyond these.
      warm: compile the usual shapes now, so that the first clients do not wait for it.
    """
    self.slots, self.active, self.waiting = slots, 0, 0
    self.problem: str | None = None
    self._scheduler = schedule.Scheduler(
      policy, slots=slots, steps=STEPS, eager=True, shortest=schedule.FIRST_POOL
    )
    self._room = slots + queue_size
    self._answer_seconds = 1.0  # a running mean
    self._closing = False
    self._lock = threading.Lock()  # of _tickets, _closing, problem
    self._inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    self._tickets: set[Ticket] = set()  # let in and not ended
    if warm:
      _warm(policy, self._scheduler)
    self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
    self._thread.start()

  def submit(
    self,
    prompt: lm.Prompt,
    wanted: settings.Settings,
    listen: Listener,
    *,
    again: bool = False,
  ) -> Ticket:
    """Queues a prompt's candidates.

    Args:
      prompt: leaves room for an answer in the model's context.
      again: another attempt of a request that was let in: the queue's limit and a
        shutdown do not hold it.

    Raises:
      Full: more would wait than may.
      Stopped: the engine is closed or broken.
    """
    ticket = Ticket(listen, wanted.num_candidates, time.monotonic())
    with self._lock:
      if self.problem or (self._closing and not again):
        raise Stopped(self.problem or "the server is shutting down")
      candidates = sum(each.left for each in (ticket, *self._tickets))
      if candidates > self._room and not again:
        raise Full(min(math.ceil(self._answer_seconds), _LONGEST_WAIT))
      self._tickets.add(ticket)
    self._inbox.put(functools.partial(self._scheduler.add, ticket, prompt, wanted))
    return ticket

  def cancel(self, ticket: Ticket) -> None:
    """Frees what the request holds; nothing where it has ended."""
    self._inbox.put(functools.partial(self._cancel, ticket))

  def close(self) -> None:
    """Takes nothing more, finishes what was let in, and ends the thread."""
    with self._lock:
      self._closing = True
    self._inbox.put(lambda: None)
    self._thread.join()

  def _run(self) -> None:
    try:
      while not (self._closing and not self._tickets and self._inbox.empty()):
        self._turn()
    except Exception as error:
      with self._lock:
        self.problem = f"the sampler broke: {type(error).__name__}"
      for ticket in self._tickets:  # no more are let in
        ticket.listen(None)
      raise

  def _turn(self) -> None:
    """What came in, then a block of steps."""
    if not self._tickets:
      self._inbox.get()()  # sleeps until there is something to do
    while not self._inbox.empty():
      self._inbox.get()()
    for update in self._scheduler.step():
      self._tell(update)
    self.active, self.waiting = self._scheduler.active, self._scheduler.waiting

  def _cancel(self, ticket: Ticket) -> None:
    if ticket in self._tickets:
      self._scheduler.cancel(ticket)
      self._end(ticket)

  def _tell(self, update: pool.Update) -> None:
    ticket: Ticket = update.job.request
    if update.finish_reason:
      ticket.left -= 1
      took = time.monotonic() - ticket.began
      self._answer_seconds += 0.1 * (took - self._answer_seconds)
      if not ticket.left:
        self._end(ticket)
    ticket.listen(update)

  def _end(self, ticket: Ticket) -> None:
    with self._lock:
      self._tickets.remove(ticket)


def _warm(policy: lm.LanguageModel, scheduler: schedule.Scheduler) -> None:
  """Most queries are of two lengths; and see `schedule.FEW` for how many at once."""
  short = settings.Settings(max_new_tokens=2, ignore_eos=True)  # a prefill, and a block
  for query in ("a cat", "a cat on a skateboard, " * 5):
    for prompts in (1, 2, schedule.FEW[-1] + 1):
      for number in range(prompts):
        scheduler.add(number, policy.prompt(query), short)
      while scheduler.step():
        pass
