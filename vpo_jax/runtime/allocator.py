"""The C library's allocator: huge pages, and trimming of the heap."""

import ctypes
import gc
import os
import sys
from typing import Any

_TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = "glibc.malloc.hugetlb=1"  # malloc asks for pages of 2 MB


def use_huge_pages() -> None:
  """Makes glibc allocate memory in huge pages; does nothing for other C libraries.

  On a CPU a training step allocates gigabytes of temporaries, and the kernel clears
  each page first. Huge pages cut a short run's page faults from 2.9 to 0.2 million.
  glibc reads the setting when a process starts, so this executes the program again in
  the same process, once. Call it first in a main, before slow imports. A GLIBC_TUNABLES
  that is already set is kept, even if it is empty.
  """
  if _TUNABLES not in os.environ and _glibc("gnu_get_libc_version"):
    os.environ[_TUNABLES] = _HUGE_PAGES
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def user_environment() -> dict[str, str]:
  """The environment without the setting of `use_huge_pages`, for other programs."""
  return {k: v for k, v in os.environ.items() if (k, v) != (_TUNABLES, _HUGE_PAGES)}


def trim_heap() -> None:
  """Returns free heap memory to the kernel, such as what compilation allocated."""
  malloc_trim = _glibc("malloc_trim")
  if malloc_trim is not None:
    gc.collect()
    malloc_trim(0)


def _glibc(name: str) -> Any:
  return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
