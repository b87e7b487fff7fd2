"""Several processes as one program: found, watched, and the first one's privileges.

Every process runs the same stage on its own devices. They decide alike from the same
files, so only what they write has to be told apart: process 0 writes rows, metrics,
manifests and lines on the screen; weights and checkpoints are written by all together.
"""

import contextlib
import ctypes
import os
import re
import signal
import warnings
from collections.abc import Iterator
from typing import Any

from vpo_jax import errors
from vpo_jax.runtime import console

HEARTBEAT = 30  # seconds without a sign of life, after which a process counts as dead
COMING = 300  # seconds that processes wait for each other at the start

index, count = 0, 1  # this process's number, and how many there are; set by `join`

_LOST = (
  "another process of this run has died or does not answer; run the same command"
  " again, on the processes that are left, to go on from the last checkpoint"
)


def join(
  address: str | None = None,
  processes: int | None = None,
  process: int | None = None,
  handles_sigterm: bool = False,
) -> None:
  """Makes this process one of several, where there are several.

  Args:
    address, processes, process: of process 0 ("host:port"), how many, and which this
      is. None finds them as JAX does: SLURM (srun), a TPU VM or GKE, Open MPI,
      Kubernetes; where it finds nothing, this process is alone.
    handles_sigterm: the work saves its state on SIGTERM (see `preemption`).

  Raises:
    UserError: only some of the three are given, they do not fit, or not all processes
      came.
  """
  global index, count
  given = (address, processes, process)
  if None in given and given != (None, None, None):
    raise errors.UserError(
      "--coordinator_address, --num_processes and --process_id go together"
    )
  if address is None and os.environ.get("SLURM_NTASKS") == "1":
    return  # JAX would take one device of the node for it
  import jax

  # Without it SIGTERM ends a process at once; with it JAX keeps the signal for a save.
  jax.config.update("jax_enable_preemption_service", handles_sigterm)
  on_abort = _LastLine()
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # Kubernetes without its package: alone
      jax.distributed.initialize(
        address,
        processes,
        process,
        initialization_timeout=COMING,
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=HEARTBEAT,
      )
  except ValueError as error:
    if address is not None:
      raise errors.UserError(f"--coordinator_address={address}: {error}") from error
    on_abort.remove()
    return
  except RuntimeError as error:
    raise errors.UserError(
      f"not all processes came to {address or 'the coordinator'} in {COMING} s: {error}"
    ) from error
  index, count = jax.process_index(), jax.process_count()
  console.console.quiet = index > 0
  if count == 1:
    on_abort.remove()


def leave() -> None:
  """Ends together with the others; call it when the work is done."""
  if count > 1:
    import jax

    jax.distributed.shutdown()


def first() -> bool:
  """Whether this process writes what is written once."""
  return index == 0


def meet(place: str) -> None:
  """Waits until all processes are at `place`."""
  if count > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(place)


@contextlib.contextmanager
def first_goes_first(place: str) -> Iterator[None]:
  """Within, process 0 goes ahead of the others, who then find what it wrote."""
  if not first():
    meet(place)
  yield
  if first():
    meet(place)


def said(line: str) -> str:
  """An error's line, with the number of the process where there are several."""
  return f"process {index}: {line}" if count > 1 else line


def explained(error: BaseException) -> str | None:
  """The line for an exception that another process's end caused; None for others."""
  text = str(error)
  if count > 1 and re.search(r"Gloo|NCCL|oordination|UNAVAILABLE|DEADLINE_EX", text):
    return _LOST
  return None


class _LastLine:
  """Ends an aborted process with one clear last line.

  JAX's watch over the processes ends in C++, with abort(), where no exception of
  Python's can be caught; what it logs before goes to stderr as it is.
  """

  def __init__(self):
    # C keeps no reference to it.
    _handlers.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(self._say))
    ctypes.CDLL(None).signal(signal.SIGABRT, _handlers[-1])

  def _say(self, _: int) -> None:
    os.write(2, f"error: {said(_LOST)}\n".encode())
    os._exit(1)

  def remove(self) -> None:
    ctypes.CDLL(None).signal(signal.SIGABRT, None)  # SIG_DFL


_handlers: list[Any] = []
