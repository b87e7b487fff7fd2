"""The C library's allocator: memory in huge pages, and what is free given back."""

import ctypes
import gc
import os
import sys
from typing import Any

_TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = "glibc.malloc.hugetlb=1"  # what malloc takes, the kernel may give in 2 MB


def huge_pages() -> None:
  """Has the kernel give memory in huge pages, where the C library is glibc.

  On a CPU a training step takes gigabytes of temporaries, which the kernel clears page
  by page: 2.9 million pages in a short run, 0.2 million so. glibc reads the setting
  before Python begins, so the program is begun anew, once: the same process, command
  and files. Call it first in a main, before what is slow to import. GLIBC_TUNABLES that
  are set, be it to nothing, stay as they are.
  """
  if _TUNABLES not in os.environ and _glibc("gnu_get_libc_version"):
    os.environ[_TUNABLES] = _HUGE_PAGES
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def environment() -> dict[str, str]:
  """The environment as the user gave it, for a program that is not ours."""
  return {k: v for k, v in os.environ.items() if (k, v) != (_TUNABLES, _HUGE_PAGES)}


def give_back() -> None:
  """Gives what is free to the kernel: what comes next wants other pieces."""
  malloc_trim = _glibc("malloc_trim")
  if malloc_trim is not None:
    gc.collect()
    malloc_trim(0)


def _glibc(name: str) -> Any:
  return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
