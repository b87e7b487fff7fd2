"""The C library's allocator, told that a step's memory is wanted again."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h


def keep_freed() -> None:
  """Keeps freed memory in the process, where the C library is glibc.

  On a CPU a step takes gigabytes of temporaries and gives them back. Given back to the
  kernel, each page is cleared anew at its next touch, by one core.
  """
  if sys.platform != "linux":
    return
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is not None:
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)  # never
