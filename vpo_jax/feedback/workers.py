"""Starts, watches and restarts the torch bridge's workers, and counts their results.

Only this module, `jobs` and `bridge` know the bridge's layout on disk.
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
# Exit codes after which a restarted worker would only fail again.
_FINAL = (
  contract.EXIT_USAGE,
  contract.EXIT_IMPORT,
  contract.EXIT_MODEL,
  contract.EXIT_DISK,
)
# After this many failures and no success, the setup is broken, not the requests.
_FAILURES_BEFORE_STOP = 20


@dataclasses.dataclass(frozen=True)
class Plan:
  """Which workers process a queue.

  Attributes:
    python: the interpreter that has the renderer's or the scorer's packages.
    executor: starts the workers.
    devices: one worker for each, as a value of CUDA_VISIBLE_DEVICES; "" is the CPU, or
      a device that the executor chooses.
    on_gpu: each worker has a GPU.
    hang_s: seconds without a heartbeat after which a worker is killed.
    restarts: worker crashes in a row, with no result in between, before giving up.
  """

  python: str
  executor: executors.Executor
  devices: tuple[str, ...]
  on_gpu: bool
  hang_s: float
  restarts: int


def command(python: str, program: str, *arguments: str) -> list[str]:
  """The command line that runs a program of torch_bridge with any interpreter."""
  return [python, _PROGRAM, program, *arguments]


def ask(
  jobs: Mapping[str, pathlib.Path], pythons: Mapping[str, str], flag: str
) -> dict[str, dict[str, Any]]:
  """Runs a worker with `flag` for each job, all at once; it prints a JSON object.

  Args:
    jobs: job file by task.
    pythons: interpreter by task.
    flag: "--check" (packages, settings and devices) or "--identity" (of a scorer).

  Returns: the JSON object by task.

  Raises:
    UserError: an interpreter is missing, or the worker refuses the job.
  """
  with contextlib.ExitStack() as stack:
    running = {}
    for task, job in jobs.items():
      python = pythons[task]
      try:
        process = subprocess.Popen(
          command(python, "worker", f"--job={job}", flag),
          stdout=subprocess.PIPE,
          stderr=subprocess.PIPE,
          text=True,
        )
      except OSError as error:
        raise errors.UserError(f"bridge: {python}: {error.strerror}") from error
      running[task] = stack.enter_context(process)
      stack.callback(process.kill)
    return {task: _reply(process) for task, process in running.items()}


def _reply(process: subprocess.Popen) -> dict[str, Any]:
  output, log = process.communicate()
  if process.returncode:
    raise errors.UserError(f"bridge: {_last_line(log)}")
  return json.loads(output.splitlines()[-1])


@dataclasses.dataclass
class _Worker:
  """A running worker; `seen_at` is when its heartbeat last changed."""

  name: str
  handle: executors.Handle
  heartbeat: str
  seen_at: float


class Supervisor:
  """Keeps workers running until a queue is processed."""

  def __init__(
    self,
    queue: shards.Queue,
    plan: Plan,
    is_done: Callable[[str], bool],
    on_done: Callable[[str], None] | None = None,
  ):
    """Supervises the workers of one queue.

    Args:
      is_done: whether the result of a request id is published.
      on_done: called with the id of each finished request; an exception ends the run.
    """
    self._queue = queue
    self._plan = plan
    self._is_done = is_done
    self._on_done = on_done
    self._workers: dict[int, _Worker] = {}
    self._started = 0
    self._open: dict[str, set[str]] = {}  # unfinished request ids by shard
    self._crashes_in_a_row = 0
    self._unreported = 0
    self.done = 0
    self.failed = 0
    self.restarts = 0

  def run(self, title: str, requests: Sequence[Any], size: int, done: int) -> None:
    """Queues the requests and runs workers until each is done or set aside.

    Args:
      title: of the progress bar.
      size: requests per shard.
      done: how many of the stage's requests were done before, for the progress bar.

    Raises:
      UserError: the workers cannot work or keep crashing; the message has the last
        line of the log and its path. Finished requests stay done.
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
      for worker in self._workers.values():
        worker.handle.kill()

  def _step(self) -> bool:
    """Checks every worker once; False if no work is left."""
    for slot in range(len(self._plan.devices)):
      worker = self._workers.get(slot)
      if worker is None:
        if self._queue.has_pending():
          self._workers[slot] = self._start(slot)
        continue
      code = worker.handle.poll()
      if code is None:
        self._kill_if_hung(worker)
      else:
        del self._workers[slot]
        self._ended(worker, code)
    return bool(self._workers) or self._queue.has_pending()

  def _start(self, slot: int) -> _Worker:
    name = f"{slot}-{self._started}"
    self._started += 1
    job = self._queue.root / "job.json"
    line = command(self._plan.python, "worker", f"--job={job}", f"--name={name}")
    env = _environment(self._plan.devices[slot], len(self._plan.devices))
    handle = self._plan.executor.start(line, env, self._log(name))
    return _Worker(name, handle, "", time.monotonic())

  def _kill_if_hung(self, worker: _Worker) -> None:
    heartbeat = shards.read_heartbeat(self._queue, worker.name)
    now = time.monotonic()
    if heartbeat != worker.heartbeat:
      worker.heartbeat, worker.seen_at = heartbeat, now
    elif not heartbeat and self._plan.executor.waits:
      return
    elif now - worker.seen_at > self._plan.hang_s:
      with self._log(worker.name).open("a") as file:
        file.write(f"killed: no heartbeat for {self._plan.hang_s:.0f} s\n")
      worker.handle.kill()

  def _ended(self, worker: _Worker, code: int) -> None:
    self._queue.release(worker.name)
    if code in (contract.EXIT_DONE, contract.EXIT_FRESH):
      return
    if code in _FINAL:
      raise errors.UserError(f"bridge: {self._cause(worker)}")
    self.restarts += 1
    settled = self._count()
    self._unreported += settled
    self._crashes_in_a_row = 0 if settled else self._crashes_in_a_row + 1
    if self._crashes_in_a_row > self._plan.restarts:
      raise errors.UserError(
        f"bridge: {self._crashes_in_a_row} workers crashed in a row without a result"
        f" (last exit code {code}): {self._cause(worker)}"
      )

  def _cause(self, worker: _Worker) -> str:
    log = self._log(worker.name)
    text = log.read_text(errors="replace") if log.exists() else ""
    return f"{_last_line(text)} (log: {log})"

  def _log(self, name: str) -> pathlib.Path:
    return self._queue.root / "logs" / f"{name}.log"

  def _settle(self) -> int:
    """How many requests were finished or set aside since the last call."""
    settled = self._unreported + self._count()
    self._unreported = 0
    if settled:
      self._crashes_in_a_row = 0
    if self.failed >= _FAILURES_BEFORE_STOP and not self.done:
      raise errors.UserError(
        f"bridge: the first {self.failed} requests failed and none succeeded:"
        f" {self._a_reason()} (logs: {self._queue.root / 'logs'})"
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
          if self._on_done:
            self._on_done(request_id)
        else:
          continue
        ended.add(request_id)
      self._open[name] -= ended
      settled += len(ended)
      if not self._open[name]:
        del self._open[name]
    return settled

  def _a_reason(self) -> str:
    for path in sorted((self._queue.root / "failures").glob("*.json")):
      failure = contract.read_row(path, contract.Failure)
      if failure:
        return failure.reason
    return "no reason recorded"

  def _note(self, began: float) -> str:
    """The progress bar's note: hours spent, an estimate of those left, failures."""
    hours = (time.monotonic() - began) * len(self._plan.devices) / 3600
    settled = self.done + self.failed
    open_count = sum(len(ids) for ids in self._open.values())
    unit = "GPU h" if self._plan.on_gpu else "worker h"
    left = hours / max(settled, 1) * open_count
    note = f"{hours:.2f} {unit} spent, {left:.2f} left"
    return f"{note}, {self.failed} failed" if self.failed else note


def _environment(device: str, workers: int) -> dict[str, str]:
  if device:
    return {"CUDA_VISIBLE_DEVICES": device}
  # With more threads than cores, every worker is many times slower.
  threads = str(max(1, (os.cpu_count() or 1) // workers))
  return {
    "OMP_NUM_THREADS": threads,
    # Idle threads must not spin: on two cores under other load, spinning took 4.6 s
    # per video of a small CogVideoX instead of 0.5.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
  }


def _last_line(text: str) -> str:
  """The line of a log that says why the program ended."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  own = [line for line in lines if line.startswith(("worker: ", "killed: "))]
  return (own or lines or ["no output"])[-1].removeprefix("worker: ")
