"""The workers of the torch bridge: started, watched, restarted, counted.

With `bridge`, the one place of vpo_jax that knows how the bridge lies on disk.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch_bridge import contract, shards
from vpo_jax import errors
from vpo_jax.feedback import executors
from vpo_jax.runtime import console

_PROGRAM = str(pathlib.Path(contract.__file__).parent)
_POLL_S = 0.2
# Ends that another try would only repeat.
_FINAL = (
  contract.EXIT_USAGE,
  contract.EXIT_IMPORT,
  contract.EXIT_MODEL,
  contract.EXIT_DISK,
)
# So many failures and not one success: the set-up is broken, not the requests.
_HOPELESS = 20


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a queue is worked off.

  Attributes:
    python: the interpreter that has the renderer's or scorer's packages.
    devices: one worker each, as CUDA_VISIBLE_DEVICES wants it; "" is the CPU, or a
      device that the executor chooses.
    on_gpu: the workers have a GPU each.
    hang_s: seconds without a heartbeat after which a worker is killed.
    restarts: deaths in a row, with nothing finished between them, that are borne.
  """

  python: str
  devices: tuple[str, ...]
  on_gpu: bool
  hang_s: float
  restarts: int


def program(python: str, *arguments: str) -> list[str]:
  """The command that runs a program of torch_bridge with any interpreter."""
  return [python, _PROGRAM, *arguments]


def check(jobs: Mapping[str, pathlib.Path]) -> dict[str, dict[str, Any]]:
  """Has each interpreter import what its job needs, all at once.

  Args:
    jobs: job file by interpreter and task, as "PYTHON render".

  Returns: what each said: versions and the number of accelerators.

  Raises:
    UserError: an interpreter is missing, or lacks a package; its own line.
  """
  with contextlib.ExitStack() as stack:
    running = {}
    for name, job in jobs.items():
      python = name.rsplit(" ", 1)[0]
      command = program(python, "worker", f"--job={job}", "--check")
      try:
        process = subprocess.Popen(
          command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
      except OSError as error:
        raise errors.UserError(f"bridge: {python}: {error.strerror}") from error
      running[name] = stack.enter_context(process)
      stack.callback(process.kill)
    return {name: _answer(process) for name, process in running.items()}


def _answer(process: subprocess.Popen) -> dict[str, Any]:
  output, complaint = process.communicate()
  if process.returncode:
    raise errors.UserError(f"bridge: {_last_line(complaint)}")
  return json.loads(output.splitlines()[-1])


@dataclasses.dataclass
class _Worker:
  name: str
  handle: executors.Handle
  beat: str
  seen_at: float


class Supervisor:
  """Works one queue off, whatever happens to its workers."""

  def __init__(
    self,
    queue: shards.Queue,
    plan: Plan,
    is_done: Callable[[str], bool],
    executor: executors.Executor,
    look: Callable[[str], None] | None = None,
  ):
    """Watches over `queue`.

    Args:
      is_done: whether a request's result is there.
      look: called with each request that is done; what it raises ends the run.
    """
    self._look = look
    self._queue = queue
    self._plan = plan
    self._is_done = is_done
    self._executor = executor
    self._live: dict[int, _Worker] = {}
    self._started = 0
    self._open: dict[str, set[str]] = {}
    self._fruitless = 0
    self._unreported = 0
    self.done = 0
    self.failed = 0
    self.restarts = 0

  def run(self, title: str, requests: Sequence[Any], size: int, done: int) -> None:
    """Asks `requests` of the workers until each is done or set aside.

    Args:
      size: requests a shard.
      done: how many of the stage's requests were done before, for the bar.

    Raises:
      UserError: workers cannot work, or die again and again; names the log and its
        last line. What is done stays done.
    """
    self._queue.refill(requests, size)
    ids = [request.id for request in requests]
    self._open = {
      f"{start // size:06d}.jsonl": set(ids[start : start + size])
      for start in range(0, len(ids), size)
    }
    began = time.monotonic()
    try:
      with console.progress(title, done + len(ids), done) as advance:
        while self._step():
          if settled := self._settle():
            advance(settled, self._note(began))
          time.sleep(_POLL_S)
        if settled := self._settle():
          advance(settled, self._note(began))
    finally:
      for worker in self._live.values():
        worker.handle.kill()

  def _step(self) -> bool:
    """Looks at every worker once; False when there is nothing left to do."""
    for slot in range(len(self._plan.devices)):
      worker = self._live.get(slot)
      if worker is None:
        if self._queue.has_pending():
          self._live[slot] = self._start(slot)
        continue
      code = worker.handle.poll()
      if code is None:
        self._watch(worker)
      else:
        del self._live[slot]
        self._ended(worker, code)
    return bool(self._live) or self._queue.has_pending()

  def _start(self, slot: int) -> _Worker:
    name = f"{slot}-{self._started}"
    self._started += 1
    job = self._queue.root / "job.json"
    command = program(self._plan.python, "worker", f"--job={job}", f"--name={name}")
    env = _environment(self._plan.devices[slot], len(self._plan.devices))
    handle = self._executor.start(command, env, self._log(name))
    return _Worker(name, handle, "", time.monotonic())

  def _watch(self, worker: _Worker) -> None:
    beat = shards.read_beat(self._queue, worker.name)
    now = time.monotonic()
    if beat != worker.beat:
      worker.beat, worker.seen_at = beat, now
    elif not beat and self._executor.waits:
      return
    elif now - worker.seen_at > self._plan.hang_s:
      with self._log(worker.name).open("a") as file:
        file.write(f"killed: no heartbeat for {self._plan.hang_s:.0f} s\n")
      worker.handle.kill()

  def _ended(self, worker: _Worker, code: int) -> None:
    self._queue.give_back(worker.name)
    if code in (contract.EXIT_DONE, contract.EXIT_FRESH):
      return
    if code in _FINAL:
      raise errors.UserError(f"bridge: {self._why(worker)}")
    self.restarts += 1
    ended = self._count()
    self._unreported += ended
    self._fruitless = 0 if ended else self._fruitless + 1
    if self._fruitless > self._plan.restarts:
      raise errors.UserError(
        f"bridge: {self._fruitless} workers died one after another and finished"
        f" nothing (last exit code {code}): {self._why(worker)}"
      )

  def _why(self, worker: _Worker) -> str:
    log = self._log(worker.name)
    text = log.read_text(errors="replace") if log.exists() else ""
    return f"{_last_line(text)} (log: {log})"

  def _log(self, name: str) -> pathlib.Path:
    return self._queue.root / "logs" / f"{name}.log"

  def _settle(self) -> int:
    """How many requests came to an end since the last call."""
    settled = self._unreported + self._count()
    self._unreported = 0
    if settled:
      self._fruitless = 0
    if self.failed >= _HOPELESS and not self.done:
      reason = self._a_failure()
      raise errors.UserError(
        f"bridge: the first {self.failed} requests failed and none succeeded:"
        f" {reason} (logs: {self._queue.root / 'logs'})"
      )
    return settled

  def _count(self) -> int:
    settled = 0
    for name in self._queue.taken() & self._open.keys():
      ended = set()
      for request_id in self._open[name]:
        if self._queue.failure(request_id):
          self.failed += 1
        elif self._is_done(request_id):
          self.done += 1
          if self._look:
            self._look(request_id)
        else:
          continue
        ended.add(request_id)
      self._open[name] -= ended
      settled += len(ended)
      if not self._open[name]:
        del self._open[name]
    return settled

  def _a_failure(self) -> str:
    for path in sorted((self._queue.root / "failures").glob("*.json")):
      failure = contract.read_row(path, contract.Failure)
      if failure:
        return failure.reason
    return "no reason was kept"

  def _note(self, began: float) -> str:
    hours = (time.monotonic() - began) * len(self._plan.devices) / 3600
    settled = self.done + self.failed
    left = sum(len(ids) for ids in self._open.values())
    unit = "GPU h" if self._plan.on_gpu else "worker h"
    more = hours / max(settled, 1) * left
    note = f"{hours:.2f} {unit} spent, {more:.2f} left"
    return f"{note}, {self.failed} failed" if self.failed else note


def _environment(device: str, workers: int) -> dict[str, str]:
  if device:
    return {"CUDA_VISIBLE_DEVICES": device}
  # More threads than cores make all workers many times slower.
  threads = str(max(1, (os.cpu_count() or 1) // workers))
  return {
    "OMP_NUM_THREADS": threads,
    # A thread that spins while it waits takes the core from those that work: on two
    # cores with other load, 4.6 s a tiny video against 0.5.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
  }


def _last_line(text: str) -> str:
  """The line in which a program says why it ended."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  own = [line for line in lines if line.startswith(("worker: ", "killed: "))]
  return (own or lines or ["it said nothing"])[-1].removeprefix("worker: ")
