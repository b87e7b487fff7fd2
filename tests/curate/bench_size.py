"""What a row costs `curate`, at any size: CPU time and memory.

    python tests/curate/bench_size.py 100000 500000 1670000

Makes VidProM-shaped files and curates each, with the config's defaults, in a process
of its own. CPU time, unlike wall time, does not count what else the machine does.
"""

import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import vidprom

from configs import curate as curate_config
from vpo_jax.curate import curate


def one(path, workdir):
  """Curates one file, and prints what it took."""
  config = curate_config.get_config()
  config.input = path
  wall, cpu = time.monotonic(), time.process_time()
  rows = curate.run(config, workdir)["read"]
  wall, cpu = time.monotonic() - wall, time.process_time() - cpu
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(
    f"{rows:,} rows: {cpu / rows * 1e6:.0f} us of CPU a row, {cpu:.0f} s of CPU,"
    f" {wall:.0f} s, {memory:.2f} GiB at most",
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
    one(*sys.argv[2:])
  else:
    main(map(int, sys.argv[1:]))
