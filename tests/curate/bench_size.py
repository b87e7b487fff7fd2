"""Measures the CPU time per row and the peak memory of `curate`.

    python tests/curate/bench_size.py 100000 500000 1670000

Writes files of VidProM's form with the given numbers of rows and curates each with the
default config in a new process. CPU time, unlike wall time, excludes other processes.
"""

import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import vidprom

from configs import curate as curate_config
from vpo_jax import stages
from vpo_jax.curate import curate


def curate_one(path, workdir):
  """Curates one file and prints the measurements."""
  config = curate_config.get_config()
  config.queries = path
  wall, cpu = time.monotonic(), time.process_time()
  rows = stages.run(curate.STAGE, config, workdir)["read"]
  wall, cpu = time.monotonic() - wall, time.process_time() - cpu
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(
    f"{rows:,} rows: {cpu / rows * 1e6:.0f} us of CPU per row, {cpu:.0f} s of CPU,"
    f" {wall:.0f} s, peak memory {memory:.2f} GiB",
    flush=True,
  )


def main(sizes):
  for rows in sizes:
    with tempfile.TemporaryDirectory() as folder:
      path = vidprom.write(pathlib.Path(folder) / "vidprom.csv", rows)
      command = [sys.executable, __file__, "--one", str(path), folder]
      subprocess.run(command, check=True)


if __name__ == "__main__":
  if sys.argv[1] == "--one":
    curate_one(*sys.argv[2:])
  else:
    main(map(int, sys.argv[1:]))
