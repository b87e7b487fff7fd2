"""Executors: where the torch bridge's workers run."""

import pathlib
import subprocess
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import ml_collections

from vpo_jax import errors
from vpo_jax.runtime import allocator


@runtime_checkable
class Handle(Protocol):
  """A running worker."""

  def poll(self) -> int | None:
    """The exit code; None while the worker runs."""
    ...

  def kill(self) -> None:
    """Kills the worker and waits until it has ended."""
    ...


@runtime_checkable
class Executor(Protocol):
  """Starts workers.

  Attributes:
    waits: whether a worker may wait for a free device before it starts. If so, silence
      before its first heartbeat is not a hang.
  """

  waits: bool

  def start(
    self, command: Sequence[str], env: Mapping[str, str], log: pathlib.Path
  ) -> Handle: ...


class _Process:
  def __init__(self, process: subprocess.Popen):
    self._process = process

  def poll(self) -> int | None:
    code = self._process.poll()
    if code is not None:
      self._close()
    return code

  def kill(self) -> None:
    self._process.kill()
    self._process.wait()
    self._close()

  def _close(self) -> None:
    if self._process.stdin:
      self._process.stdin.close()


class Local:
  """Runs workers as processes of this machine."""

  waits = False

  def start(
    self, command: Sequence[str], env: Mapping[str, str], log: pathlib.Path
  ) -> Handle:
    # The pipe to the worker's standard input closes when this process dies.
    with log.open("ab") as file:
      process = subprocess.Popen(
        [*command, "--end_with_stdin"],
        stdin=subprocess.PIPE,
        stdout=file,
        stderr=subprocess.STDOUT,
        env=allocator.user_environment() | dict(env),
      )
    return _Process(process)


class _Task:
  def __init__(self, ray: Any, task: Any):
    self._ray = ray
    self._task = task

  def poll(self) -> int | None:
    ready, _ = self._ray.wait([self._task], timeout=0)
    if not ready:
      return None
    try:
      return self._ray.get(self._task)
    except self._ray.exceptions.RayError:
      return -1  # the node or its Ray worker died

  def kill(self) -> None:
    self._ray.cancel(self._task, force=True)
    self._ray.wait([self._task], timeout=60)


class Ray:
  """Runs workers as tasks of a Ray cluster whose nodes share a file system.

  Ray assigns the devices and sets CUDA_VISIBLE_DEVICES.

  Attributes:
    gpus: per worker.
  """

  waits = True

  def __init__(self, address: str, gpus: int):
    """Joins the cluster at `address`, or starts a local one if it is "".

    Args:
      gpus: per worker, 0 or 1; -1 is 1 if the cluster has any.

    Raises:
      UserError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
      import ray
    except ImportError as error:
      raise errors.UserError(
        "bridge.executor=ray needs Ray; install the extra: pip install 'vpo-jax[ray]'"
      ) from error
    self._ray: Any = ray
    if not ray.is_initialized():
      try:
        ray.init(address=address or None, log_to_driver=False)
      except (ConnectionError, ValueError) as error:
        line = " ".join(str(error).split())
        raise errors.UserError(f"bridge.address={address!r}: {line}") from error
    if gpus < 0:
      gpus = int(ray.cluster_resources().get("GPU", 0) > 0)
    self.gpus = gpus
    # The supervisor restarts workers: it must release their shards first.
    options = {"num_gpus": gpus, "num_cpus": 1, "max_retries": 0}
    self._run: Any = self._ray.remote(**options)(_remote_function())

  def devices(self) -> int:
    """How many workers the cluster can run at once."""
    found = self._ray.cluster_resources()
    return max(1, int(found.get("GPU" if self.gpus else "CPU", 1)))

  def start(
    self, command: Sequence[str], env: Mapping[str, str], log: pathlib.Path
  ) -> Handle:
    env = {key: value for key, value in env.items() if key != "CUDA_VISIBLE_DEVICES"}
    task = self._run.remote([*command, "--end_with_stdin"], env, str(log.resolve()))
    return _Task(self._ray, task)


def _remote_function() -> Any:
  """The function that a node runs; local, so that Ray sends its code to the node."""

  @typing.no_type_check  # the tests' type checker would make it unpicklable for Ray
  def run(command: list[str], env: dict[str, str], log: str) -> int:
    import os
    import subprocess

    with open(log, "ab") as file:
      # The pipe closes when this Ray worker dies, which ends the command too.
      return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=file,
        stderr=subprocess.STDOUT,
        env=dict(os.environ) | env,
      ).wait()

  return run


def make(config: ml_collections.ConfigDict) -> Executor:
  """The executor that `config.executor` names."""
  if config.executor == "local":
    return Local()
  if config.executor == "ray":
    return Ray(config.address, config.gpus)
  raise errors.UserError(
    f"config.bridge.executor={config.executor!r}: must be 'local' or 'ray'"
  )
