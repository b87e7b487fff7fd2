"""What this machine is fast at."""

import pathlib


def precision() -> str:
  """Of matrix products on this CPU: bfloat16 where it multiplies pairs of it at once.

  Such products run at twice the rate of float32 ones; without AVX512-BF16 they are
  emulated, and slower (docs/performance.md).
  """
  known = pathlib.Path("/proc/cpuinfo")
  flags = known.read_text().split() if known.exists() else []
  return "bfloat16" if "avx512_bf16" in flags else "float32"
