"""The C library's allocator, told that a step's memory is wanted again."""

import ctypes
import gc
import sys
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h


def keep_freed() -> None:
  """Keeps freed memory in the process, where the C library is glibc.

  On a CPU a training step takes gigabytes of temporaries and gives them back, a block
  of decode steps and its caches hundreds of megabytes. Given back to the kernel, each
  page is cleared anew at its next touch, by one core. In threads other than the first,
  glibc still maps and unmaps a piece above 64 MB; docs/performance.md has what helps.
  """
  mallopt = _glibc("mallopt")
  if mallopt is not None:
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)  # never


def give_back() -> None:
  """Gives what is free to the kernel: what comes next wants other pieces."""
  malloc_trim = _glibc("malloc_trim")
  if malloc_trim is not None:
    gc.collect()
    malloc_trim(0)


def _glibc(name: str) -> Any:
  return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
