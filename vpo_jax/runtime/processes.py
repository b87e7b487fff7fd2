"""Distributed runs: how processes find each other, fail together and share writing.

Every process runs the same stage on its own devices, and reaches the same decisions
because all read the same files. Process 0 alone writes rows, metrics, manifests and
console output; all processes write weights and checkpoints together.
"""

import contextlib
import faulthandler
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

from vpo_jax import errors
from vpo_jax.runtime import console

HEARTBEAT = 30  # seconds without a heartbeat after which a process counts as dead
LEAVING = 2 * HEARTBEAT  # seconds that JAX gets to disconnect them at the end
STARTUP = 300  # seconds that processes wait for each other at the start

index, count = 0, 1  # this process's number, and the number of processes

_LOST = (
  "this process waited for another one, which has died or does not answer; run the same"
  " command again with the remaining processes to continue from the last checkpoint"
)
# What JAX's errors contain if a process waited for another one in vain.
_WAITED = re.compile(
  r"Gloo|NCCL operation|oordination service|Barrier timed out|UNAVAILABLE:|DEADLINE_EXC"
)


def join(
  address: str | None = None,
  processes: int | None = None,
  process: int | None = None,
  handles_sigterm: bool = False,
) -> None:
  """Joins a distributed run; does nothing for a single process.

  Args:
    address: "host:port" of process 0. If it and the next two are None, JAX looks for
      SLURM (srun), a TPU VM or GKE, Open MPI or Kubernetes; if it finds none, this
      process runs alone.
    processes: the number of processes.
    process: this process's number, from 0.
    handles_sigterm: the work saves its state on SIGTERM (see `preemption`).

  Raises:
    UserError: only some of the three are given, they are not valid, or not all
      processes started in time.
  """
  global index, count
  given = (address, processes, process)
  if None in given and given != (None, None, None):
    raise errors.UserError(
      "--coordinator_address, --num_processes and --process_id go together"
    )
  if address is None and os.environ.get("SLURM_NTASKS") == "1":
    return  # JAX would use only one of the node's devices
  import jax

  # Without this SIGTERM ends a process at once; with it, training saves first.
  jax.config.update("jax_enable_preemption_service", handles_sigterm)
  try:
    with warnings.catch_warnings():
      # On Kubernetes without its client package JAX warns, and the process runs alone.
      warnings.simplefilter("ignore")
      jax.distributed.initialize(
        address,
        processes,
        process,
        initialization_timeout=STARTUP,
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=HEARTBEAT,
      )
  except ValueError as error:
    if address is not None:
      raise errors.UserError(f"--coordinator_address={address}: {error}") from error
    return
  except RuntimeError as error:
    raise errors.UserError(
      f"not all processes reached {address or 'process 0'} in {STARTUP} s: {error}"
    ) from error
  index, count = jax.process_index(), jax.process_count()
  console.console.quiet = index > 0
  if count > 1:
    _report_aborts()


def leave(code: int = 0) -> None:
  """Ends this process together with the others of its run, after the work.

  A single process returns. In a distributed run this exits with `code`, at the latest
  after `LEAVING` seconds: it neither waits longer for JAX, whose shutdown has hung once
  in a test, nor runs the destructors of JAX's connections.
  """
  if count == 1:
    return
  import jax

  def end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

  limit = threading.Timer(LEAVING, end)
  limit.daemon = True
  limit.start()
  jax.distributed.shutdown()
  end()


def first() -> bool:
  """Whether this is process 0, which alone writes rows, metrics and manifests."""
  return index == 0


def barrier(name: str) -> None:
  """Waits until all processes have reached the barrier of this name."""
  if count > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def all_agree(value: bool) -> bool:
  """Whether the value is true in every process; all must call this."""
  if count == 1:
    return value
  import numpy as np
  from jax.experimental import multihost_utils

  return bool(np.all(multihost_utils.process_allgather(np.asarray(value))))


@contextlib.contextmanager
def main_process_first(name: str) -> Iterator[None]:
  """A context that process 0 runs first; the others then see the files it wrote."""
  if not first():
    barrier(name)
  yield
  if first():
    barrier(name)


def with_index(line: str) -> str:
  """An error line, prefixed with the process's number in a distributed run."""
  return f"process {index}: {line}" if count > 1 else line


def waited(error: BaseException) -> str | None:
  """The error line if this process waited for another one; None for its own failure.

  A collective operation fails in every process that waits for a dead one. It may also
  fail by itself, so the traceback of `error` has to be shown in both cases.
  """
  # XLA's errors, which Python gets as several types, begin with a status.
  of_xla = re.match(r"[A-Z_]+: ", str(error))
  return _LOST if count > 1 and of_xla and _WAITED.search(str(error)) else None


# Copies its input to stderr, and explains it if it is that of an abort.
_REPORTER = """
import sys
text = sys.stdin.read()
sys.stderr.write(text)
if "Fatal Python error: Aborted" in text:
  sys.stderr.write(sys.argv[1])
"""


def _report_aborts() -> None:
  """Starts a program that prints the error line if JAX aborts this process.

  JAX's heartbeat monitor calls abort() when another process is lost. A handler in
  Python could wait forever for the interpreter's lock. `faulthandler` needs none: it
  writes the stacks of all threads to the program's input, which ends with this process.
  """
  line = f"error: {with_index(_LOST)}\n"
  reporter = subprocess.Popen(
    [sys.executable, "-S", "-E", "-c", _REPORTER, line],
    stdin=subprocess.PIPE,
    start_new_session=True,  # so that Ctrl-C does not end it first
  )
  assert reporter.stdin is not None
  faulthandler.enable(reporter.stdin)
  _reporters.append(reporter)


_reporters: list[subprocess.Popen] = []  # kept, because their pipes must stay open
