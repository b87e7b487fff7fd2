"""The precision that suits this machine's CPU."""

import pathlib


def precision() -> str:
  """The faster precision of matrix products: "bfloat16" with AVX512-BF16.

  With these instructions bfloat16 products run at twice the rate of float32. Without
  the instructions bfloat16 is emulated and slower (docs/performance.md).
  """
  known = pathlib.Path("/proc/cpuinfo")
  flags = known.read_text().split() if known.exists() else []
  return "bfloat16" if "avx512_bf16" in flags else "float32"
