"""What a process has taken of the machine."""

import pathlib
import resource


def peak_rss_bytes() -> int:
  """The most memory this process has held.

  Linux keeps it per address space; `ru_maxrss` is inherited from the process that
  started this one, so it is only what other systems have.
  """
  status = pathlib.Path("/proc/self/status")
  if status.exists():
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    if "VmHWM" in lines:
      return int(lines["VmHWM"].split()[0]) * 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
