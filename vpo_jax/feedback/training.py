"""Starts and watches the processes that train a video model."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time

from torch_bridge import contract
from vpo_jax import errors
from vpo_jax.feedback import workers
from vpo_jax.runtime import console, preemption

_POLL_S = 0.1
_NAME = "train_diffusion_dpo"


def run(job: pathlib.Path, until: int, plan: workers.Plan, count: int) -> None:
  """Trains up to a step, in one or several processes on this machine.

  Args:
    job: the job file; logs are written to its folder.
    plan: the interpreter and the devices.
    count: how many processes; 0 is one per device, and one on a CPU.

  Raises:
    UserError: a process ended with an error; the message has the last line of its log.
    SystemExit: on SIGTERM, once the processes have saved their state.
  """
  count = count or (len(plan.devices) if plan.on_gpu else 1)
  folder = job.parent / "logs"
  folder.mkdir(exist_ok=True)
  command = workers.command(
    plan.python, "train", f"--job={job}", f"--until={until}", "--end_with_stdin"
  )
  with preemption.deferred() as preempted, contextlib.ExitStack() as stack:
    started = []
    port = _free_port()
    for rank in range(count):
      log = stack.enter_context((folder / f"{rank}.log").open("ab"))
      process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # it closes when this process dies
        stdout=log,
        stderr=log,
        env=os.environ | _environment(plan, rank, count, port),
      )
      started.append(stack.enter_context(process))
      stack.callback(process.kill)
    told = False
    while any(process.poll() is None for process in started):
      if preempted(0) and not told:
        told = True
        for process in started:
          process.send_signal(signal.SIGTERM)
      if any(process.returncode not in (None, *_GOOD) for process in started):
        time.sleep(1.0)  # so that the first one's log is complete
        break  # the others wait for it in vain
      time.sleep(_POLL_S)
    _check([process.poll() for process in started], folder)
    if told:
      console.say(f"{_NAME}: saved; the same command continues")
      raise SystemExit(preemption.EXIT_CODE)


_GOOD = (contract.EXIT_DONE, contract.EXIT_SAVED)


def _check(codes: list[int | None], folder: pathlib.Path) -> None:
  for rank, code in enumerate(codes):
    if code is None or code in _GOOD:
      continue
    log = folder / f"{rank}.log"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line]
    own = [line for line in lines if line.startswith("train: ")]
    said = (own or lines or ["no output"])[-1].removeprefix("train: ")
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else said
    raise errors.UserError(f"{_NAME}: {how} (log: {log})")


def _environment(
  plan: workers.Plan, rank: int, count: int, port: int
) -> dict[str, str]:
  found = {}
  if count > 1:
    found = {
      "MASTER_ADDR": "127.0.0.1",
      "MASTER_PORT": str(port),
      "WORLD_SIZE": str(count),
      "RANK": str(rank),
      "LOCAL_RANK": str(rank),
    }
  if plan.on_gpu:
    return found | {"CUDA_VISIBLE_DEVICES": ",".join(plan.devices)}
  threads = max(1, (os.cpu_count() or 1) // count)
  return found | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


def _free_port() -> int:
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    return found.getsockname()[1]
