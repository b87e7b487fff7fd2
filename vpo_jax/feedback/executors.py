"""Where the torch bridge's workers run."""

import os
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Protocol


class Handle(Protocol):
  """A running worker."""

  def poll(self) -> int | None:
    """Its exit code; None while it runs."""
    ...

  def kill(self) -> None:
    """Ends it at once, and waits until it has ended."""
    ...


class Executor(Protocol):
  """Where workers run."""

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
  """Workers as processes of this machine."""

  def start(
    self, command: Sequence[str], env: Mapping[str, str], log: pathlib.Path
  ) -> Handle:
    # Our end of its standard input closes when we die, however we die.
    with log.open("ab") as file:
      process = subprocess.Popen(
        [*command, "--end_with_stdin"],
        stdin=subprocess.PIPE,
        stdout=file,
        stderr=subprocess.STDOUT,
        env=dict(os.environ) | dict(env),
      )
    return _Process(process)
