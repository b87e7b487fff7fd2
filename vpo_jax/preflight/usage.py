"""The memory of a stage: of its processes, and of the GPUs."""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator

import psutil

_INTERVAL = 0.5  # seconds between measurements


@dataclasses.dataclass
class Usage:
  """Peaks since the measurement began, in bytes.

  Attributes:
    host: resident memory of all child processes together. Pages that several of them
      share are counted for each.
    device: memory in use of the fullest GPU; None without nvidia-smi.
  """

  host: int = 0
  device: int | None = None


@contextlib.contextmanager
def measured() -> Iterator[Usage]:
  """Measures the child processes of this process until the context ends."""
  usage, ended = Usage(), threading.Event()

  def repeat() -> None:
    while True:
      _update(usage)
      if ended.wait(_INTERVAL):
        return

  thread = threading.Thread(target=repeat, daemon=True)
  thread.start()
  try:
    yield usage
  finally:
    ended.set()
    thread.join()


def _update(usage: Usage) -> None:
  total = 0
  for process in psutil.Process(os.getpid()).children(recursive=True):
    with contextlib.suppress(psutil.Error):  # it has ended meanwhile
      total += process.memory_info().rss
  usage.host = max(usage.host, total)
  if found := _device_memory():
    usage.device = max(usage.device or 0, found)


def _device_memory() -> int | None:
  if not shutil.which("nvidia-smi"):
    return None
  query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
  ran = subprocess.run(query, capture_output=True, text=True, check=False)
  numbers = [int(line) for line in ran.stdout.split() if line.isdigit()]
  return max(numbers) << 20 if numbers else None
